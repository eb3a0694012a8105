"""`wormwheel demo`: the whole chain and a page about it."""
