"""Tests of `envs/vehicle`."""
