"""Recorded steps on NVIDIA GPUs."""
