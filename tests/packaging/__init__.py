"""Tests of what is built from the tree, and of what its pages promise."""
