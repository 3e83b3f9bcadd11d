"""Statistics, fits, ratios and tables of results. Nothing here needs PyTorch."""
