"""A driver that also drives where the world has shifted: a released policy, and corrections for other worlds."""
