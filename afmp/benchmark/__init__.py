"""The sweep over image sizes, and time and memory of single passes, steps and selections."""
