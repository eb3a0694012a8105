"""`wormwheel explain`: see a driver think."""
