"""Tests of `policies/wiring`."""
