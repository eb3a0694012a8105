"""Tests of the benchmarks: what they check before they print."""
