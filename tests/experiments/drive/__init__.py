"""Tests of experiments.drive."""
