"""Tests of `policies/cores`."""
