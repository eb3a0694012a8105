"""Fused sequence kernels of the cores, each beside a readable torch reference."""
