"""Shared parts of the figures: style, the panels of a study, the lines of a sweep."""
