"""Tests of policies.explain."""
