"""The study: config.yaml and its checks, the runs that follow from it, and their result paths."""
