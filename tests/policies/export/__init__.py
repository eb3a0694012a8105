"""Tests of policies.export."""
