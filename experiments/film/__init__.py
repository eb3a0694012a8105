"""`wormwheel render`, and everything that draws films."""
