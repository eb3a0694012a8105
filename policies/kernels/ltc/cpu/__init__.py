"""The LTC on the CPU, compiled by numba."""
