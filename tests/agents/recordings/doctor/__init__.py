"""Tests of the doctor for recordings."""
