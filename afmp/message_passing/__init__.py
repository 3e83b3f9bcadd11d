"""The hot operation: scores of the edges, the best edges kept, gated messages summed at every node."""
