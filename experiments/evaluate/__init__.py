"""`wormwheel evaluate`: drives on unseen roads, recordings and other envs."""
