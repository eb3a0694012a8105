"""`wormwheel gallery`: every perturbation at every severity."""
