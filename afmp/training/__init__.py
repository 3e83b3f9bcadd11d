"""Training: jobs, runs, the training loop, checkpoints, and the files of a finished seed.

In this package, "a seed" is short for the training of a run with one random seed. The modules, in the order in which
a job uses them:

- job: one job of the workflow, which may train other runs too
- reuse: finished seeds without their checkpoints
- run, identity: a run to be trained; the settings and code that decide its numbers, and its checkpoints' names
- run_training: a run with all its seeds, set up and then trained
- side_by_side: several runs in one process, each in its own thread and CUDA stream
- loop: the epochs of a group of seeds that train as one stack
- step, optimizer, evaluation, gates: one batch; AdamW and the schedule; accuracy; diagnostics
- seed_state, checkpoint: one seed in training, and the file from which it resumes
- tensorboard: scalars for TensorBoard, made of checkpoints and results
- seed_files: weights, diagnostics and result of a finished seed
- checkpoint_lock, out_of_memory: one process per checkpoint folder; the out-of-memory error, with the sizes to lower
"""
