"""The LTC on CUDA devices, in Triton."""
