"""Finished studies: archiving and drawing them again, verifying them, and the ranges expected of a rerun."""
