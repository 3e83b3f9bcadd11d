"""AFMP: one file per semantics, and the modules that they share."""
