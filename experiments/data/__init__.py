"""`wormwheel data`: what a recording holds, what is wrong with it, in which format it stands, how it looks."""
