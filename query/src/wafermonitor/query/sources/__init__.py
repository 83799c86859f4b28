"""Where answers come from beside the opened store; one module each."""
