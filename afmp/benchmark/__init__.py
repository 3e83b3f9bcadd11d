"""The sweep over image sizes, and time and memory of single passes, training steps and edge selections."""
