"""Crop and resize: negative crops repeat the edge, with a gradient."""

from __future__ import annotations

import pytest
import torch

from policies.preprocessing import Preprocessing


def test_negative_crops_repeat_the_edge():
    frames = torch.arange(4 * 6 * 3, dtype=torch.uint8).view(1, 4, 6, 3)
    fit = Preprocessing(4, 6, crop_top=-2, crop_bottom=1, crop_left=-1, crop_right=-3, height=5, width=10)
    seen = fit(frames)[0]
    assert not fit.is_identity
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[2]), "the first row, three times"
    assert torch.equal(seen[2:, 1:7], frames[0, :3])
    assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 7:], seen[:, 6:7].expand(5, 3, 3))
    pixels = frames.float().requires_grad_(True)
    fit(pixels).sum().backward()
    assert pixels.grad is not None and pixels.grad[0, 0, 0, 0] == 3 * 2 and pixels.grad[0, 3].abs().max() == 0


def test_lines_of_the_road_go_on_straight_in_rows_that_are_added():
    """Two lines through the vanishing point, of which the camera saw the upper part."""

    def road(rows: int) -> torch.Tensor:
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(61), indexing="ij")
        edges = [30 + slope * (row - 4) for slope in (-0.5, 0.7)]
        width = (0.15 * (row - 4)).clamp(min=1)
        drawn = torch.stack([torch.exp(-0.5 * ((column - edge) / width) ** 2) for edge in edges]).sum(0)
        return (200 * drawn).to(torch.uint8)[..., None].expand(rows, 61, 3)[None].contiguous()

    seen, whole = road(24), road(32)
    fit = Preprocessing(24, 61, crop_top=2, crop_bottom=-8, crop_left=3, crop_horizon=4, height=30, width=58)
    made = fit(seen)[0].float()
    wanted = whole[0, 2:, 3:].float()
    assert torch.equal(made[:22], wanted[:22])
    assert (made - wanted).abs().mean() < 2.0
    repeated = Preprocessing(24, 61, crop_top=2, crop_bottom=-8, crop_left=3, height=30, width=58)(seen)[0].float()
    assert (repeated - wanted).abs().mean() > 8.0


@pytest.mark.parametrize("crops", [{"crop_top": 4, "crop_bottom": -8}, {"crop_left": -8, "crop_right": 6}])
def test_something_must_be_left_of_the_picture_itself(crops):
    with pytest.raises(ValueError, match="nothing is left"):
        Preprocessing(4, 6, **crops, height=4, width=6)
