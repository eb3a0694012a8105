"""Tests of `envs/road`."""
