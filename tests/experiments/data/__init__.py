"""Tests of `wormwheel data`."""
