"""Tests of `agents/ppo`."""
