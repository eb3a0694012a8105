"""Run directories, files, training state, worker processes, Ray."""
