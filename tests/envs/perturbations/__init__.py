"""Tests of `envs/perturbations`."""
