"""The perturbations, a file a family."""
