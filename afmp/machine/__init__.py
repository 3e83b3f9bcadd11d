"""The machine: devices, processes, locks and signals."""
