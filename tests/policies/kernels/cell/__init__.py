"""Tests of `policies/kernels/cell`."""
