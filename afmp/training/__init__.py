"""Training: jobs, runs, steps, checkpoints, and the files of a finished seed."""
