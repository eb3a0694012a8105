"""Tests of `agents/recordings`."""
