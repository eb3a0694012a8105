"""Tests of `experiments/gallery`."""
