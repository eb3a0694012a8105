"""Tests of `experiments/evaluate`."""
