"""Damage, kills and long runs: what may happen to files and processes, and what must not follow from it."""
