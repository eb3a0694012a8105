"""Tests of `policies/kernels/ltc`."""
