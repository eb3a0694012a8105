"""Tests of the env that a recording becomes."""
