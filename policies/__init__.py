"""Frames to steering, in pure torch: wirings, conv heads, cores, kernels, policies."""
