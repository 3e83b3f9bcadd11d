"""The commands of `afmp`, one file each. They import what they need when they run, so that `--help` does not wait."""
