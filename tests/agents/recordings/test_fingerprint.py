"""A recording that has changed is another one."""

from __future__ import annotations

from agents.recordings.fingerprint import fingerprint
from tests.agents.toys import episodes


def test_a_fingerprint_sees_labels_times_and_pixels():
    one, other = episodes(2), episodes(2)
    assert fingerprint(one) == fingerprint(other)
    other[1].source.frames[:] ^= 1  # type: ignore[union-attr]
    found = {fingerprint(one), fingerprint(episodes(2, seed=1)), fingerprint(episodes(2, steps=119))}
    assert len(found) == 3
    late = episodes(2)
    late[0].time_s[5] += 0.01
    assert fingerprint(late) not in found
