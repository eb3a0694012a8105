"""Tests of `envs/camera`."""
