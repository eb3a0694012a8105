"""Tests of `agents/imitation`."""
