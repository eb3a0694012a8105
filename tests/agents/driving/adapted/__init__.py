"""Tests of `agents/driving/adapted`."""
