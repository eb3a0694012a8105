"""The lane-keeping env."""
