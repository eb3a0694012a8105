"""Tests of `experiments/film`."""
