"""The scan for NVIDIA GPUs."""
