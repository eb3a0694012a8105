"""`wormwheel export`: a policy for a car."""
