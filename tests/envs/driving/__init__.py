"""Tests of `envs/driving`."""
