"""Tests of `experiments/tasks`."""
