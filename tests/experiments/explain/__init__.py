"""Tests of experiments.explain."""
