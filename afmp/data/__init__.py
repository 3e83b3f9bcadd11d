"""Images: sources, download, preparation, split and augmentation."""
