"""Frames to steering, in pure torch: wirings, conv heads, cores, kernels, policies."""

import wormwheel  # noqa: F401 - says what hides a room
