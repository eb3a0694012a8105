"""Tests of `policies/kernels`."""
