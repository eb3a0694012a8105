"""Crop and gain for another camera and another car: the verb, and what it is worth in altered worlds."""
