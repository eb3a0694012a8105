"""Tests of `envs/lane_keeping`."""
