"""Training: jobs, runs, the training loop, checkpoints, and the files of a finished seed."""
