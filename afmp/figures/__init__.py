"""The figures, one file each: `draw` returns the figure, `caption` describes it with the numbers that it shows."""
