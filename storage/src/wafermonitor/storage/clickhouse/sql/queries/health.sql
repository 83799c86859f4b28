SELECT version(), maxOrNull(newest.1) FROM app
