"""Tests of experiments.export."""
