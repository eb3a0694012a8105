"""Tests of `agents/driving`."""
