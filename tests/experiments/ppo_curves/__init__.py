"""Tests of `experiments/ppo_curves`."""
