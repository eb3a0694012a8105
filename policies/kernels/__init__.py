"""What runs the cores, fast: each kernel is held to a readable reference beside it."""

WIDTH = 16
"""Numbers in a vector of the CPU kernels, and samples of the batch that are computed side by side."""
