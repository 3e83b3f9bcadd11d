"""Data: sources, download, preparation, split and augmentation of images."""
