"""Tests of `experiments/liquid_claim`."""
