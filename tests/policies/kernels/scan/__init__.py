"""Scans: the kernels against the loop."""
