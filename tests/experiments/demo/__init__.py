"""Tests of `experiments/demo`."""
