"""Noise on the whole plane, from small tiles that repeat without a seam.

Whatever part of the plane a picture shows, the same noise lies at the same place, so pictures fit together. Each kind
of noise is one tile, made once in a process.

    noise = PlaneNoise(row0=-64, column0=128, height=256, width=512)
    spots = noise.tile("spots", np.array([16, 48]), COARSE)
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.warp import Image
from envs.scene.look import Surface

TILE = 512
"""Side of a tile, pixels."""
COARSE = 16
"""Pixels of the picture per pixel of the coarse noise of a material."""


class PlaneNoise:
    """The noise of the part of the plane that one picture shows."""

    def __init__(self, row0: int, column0: int, height: int, width: int, halvings: int = 0):
        """Say which part.

        Args:
            row0: row of the plane that is the picture's first.
            column0: column of the plane that is the picture's first.
            height: rows of the picture.
            width: columns of the picture.
            halvings: how often the sides of the full picture have been halved; at most twice. The other arguments
                count halved pixels.
        """
        self.row0, self.column0, self.height, self.width, self.halvings = row0, column0, height, width, halvings

    def material(self, surface: Surface, seed: int, salt: int) -> Image:
        """Mix the three noises of a material.

        Args:
            surface: how much of each.
            seed: of the look.
            salt: another number for each material, so that they lie differently.

        Returns:
            uint8 `[h, w]`, around 128.
        """
        shifts = np.random.default_rng([seed, salt]).integers(TILE // 16, size=(3, 2)) * 16
        first, second = self.tile("medium", shifts[0]), self.tile("fine", shifts[1])
        mixed = cv2.addWeighted(
            first, surface.medium, second, surface.fine, 128.0 * (1.0 - surface.medium - surface.fine)
        )
        return cv2.addWeighted(
            mixed, 1.0, self.tile("spots", shifts[2], COARSE), surface.coarse, -128.0 * surface.coarse
        )

    def tile(self, name: str, shift: NDArray[np.integer], zoom: int = 1) -> Image:
        """One kind of noise over the picture.

        Args:
            name: "fine", "medium", "coarse" or "spots".
            shift: where in the tile the origin of the plane lies.
            zoom: 1, or pixels of the full picture for each of the tile's.

        Returns:
            uint8 `[h, w]`.
        """
        tile = _tile(name, self.halvings if zoom == 1 else 0)
        size = tile.shape[0]
        repeat = max(1, zoom >> self.halvings) if zoom > 1 else 1  # pixels of this picture for each of the tile's
        offset = shift >> self.halvings if zoom == 1 else shift
        spare = 2 * (repeat > 1)
        height, width = -(-self.height // repeat) + spare, -(-self.width // repeat) + spare
        row, column = (self.row0 // repeat + int(offset[0])) % size, (self.column0 // repeat + int(offset[1])) % size
        below, right = max(0, row + height - size), max(0, column + width - size)
        part = _wrapped(tile, below, right)[row : row + height, column : column + width]
        if repeat > 1:
            part = cv2.resize(part, (width * repeat, height * repeat), interpolation=cv2.INTER_LINEAR)
        return part[: self.height, : self.width]


@lru_cache(maxsize=16)
def _tile(name: str, halvings: int) -> Image:
    """A square of noise that repeats without a seam, averaged down so often."""
    if halvings > 0:
        return cv2.resize(_tile(name, halvings - 1), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    seed, sigma = {"fine": (20, 0.6), "medium": (21, 3.5), "spots": (22, 1.6), "coarse": (23, 8.0)}[name]
    return _noise_tile(np.random.default_rng(seed), sigma)


def _wrapped(tile: Image, below: int, right: int) -> Image:
    """The tile continued by so many rows and columns."""
    return cv2.copyMakeBorder(tile, 0, below, 0, right, cv2.BORDER_WRAP) if below or right else tile


def _noise_tile(rng: np.random.Generator, sigma: float) -> Image:
    """Gaussian noise of a correlation length in pixels, mean 128 and standard deviation 45."""
    frequency = np.fft.fftfreq(TILE)
    square = frequency[:, None] ** 2 + frequency[None] ** 2
    white = np.fft.fft2(rng.standard_normal((TILE, TILE)))
    noise = np.fft.ifft2(white * np.exp(-2.0 * (np.pi * sigma) ** 2 * square)).real
    noise = (noise - noise.mean()) / noise.std()
    return np.clip(np.rint(128.0 + 45.0 * noise), 0, 255).astype(np.uint8)
