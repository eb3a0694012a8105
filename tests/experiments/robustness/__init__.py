"""Tests of `experiments/robustness`."""
