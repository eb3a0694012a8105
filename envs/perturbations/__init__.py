"""What goes wrong with the frames, by family. Everything here changes uint8 frames and draws from a given generator."""

from __future__ import annotations

from envs.perturbations.noise import GaussianNoise as GaussianNoise
