SELECT count() FROM run
