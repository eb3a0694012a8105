"""The fused LTC sequence: reference, CPU and CUDA kernels, and the choice among them."""
