"""The study: config.yaml, its schema, the runs and the result paths that follow from it."""
