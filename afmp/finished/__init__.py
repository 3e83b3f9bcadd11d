"""Finished studies: archived, checked, and compared with what is expected."""
