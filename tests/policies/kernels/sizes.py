"""Sizes at which kernels of the CPU are held against their references."""

SIZES = [
    (3, 1, 1),
    (3, 7, 63),
    (3, 33, 12),
    (19, 1, 17),
    (19, 7, 100),
    (19, 33, 1),
    (302, 1, 9),
    (302, 7, 1),
    (302, 33, 3),
]
"""Neurons, samples and steps. Each circuit with each remainder of a tile, and with one, some and many steps."""
