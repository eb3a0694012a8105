"""What some tests of the world need."""

from __future__ import annotations

import pytest

from envs.vehicle.bullet import has_bullet

# PyBullet has no wheels beyond Python 3.11; there the bicycle is the vehicle, and its tests run.
needs_bullet = pytest.mark.skipif(not has_bullet(), reason="PyBullet is not installed")
