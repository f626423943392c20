from __future__ import annotations

import pytest
import torch
from torch.optim import Adam

from iscl_monai.networks import NoiseExtractor
from iscl_monai.training import Noise2Void
from iscl_monai.training.noise2void import MASKED_SHARE, RADIUS_PX, with_hidden_pixels


def test_hidden_pixels_are_few_and_hold_a_neighbours_value() -> None:
    torch.manual_seed(0)
    places = torch.arange(64.0 * 64).view(1, 1, 64, 64).repeat(4, 1, 1, 1)  # each value is its own place
    masked, hidden = with_hidden_pixels(places)
    assert hidden.mean().item() == pytest.approx(MASKED_SHARE, rel=0.2)
    assert torch.equal(masked[hidden == 0], places[hidden == 0])
    inside = hidden.bool()
    inside[..., :RADIUS_PX, :] = inside[..., -RADIUS_PX:, :] = False
    inside[..., :RADIUS_PX] = inside[..., -RADIUS_PX:] = False
    from_row, from_column = masked[inside] // 64, masked[inside] % 64
    row, column = places[inside] // 64, places[inside] % 64
    assert ((from_row - row).abs() <= RADIUS_PX).all()
    assert ((from_column - column).abs() <= RADIUS_PX).all()
    assert (masked[inside] != places[inside]).all()  # a pixel that saw itself would teach the identity
    assert len(torch.unique(torch.stack([from_row - row, from_column - column]), dim=1).T) == 24


def test_only_hidden_pixels_count() -> None:
    """With H = 0 the loss is the squared difference to the neighbour that was put there, and of nothing else."""
    extractor = NoiseExtractor(width=2, layers=2, silent_start=True)
    x = torch.rand(2, 1, 32, 32)
    trainer = Noise2Void(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"noisy": x, "clean": x}],
        noise_extractor=extractor,
        extractor_optimizer=Adam(extractor.parameters(), lr=0.0),
    )
    torch.manual_seed(3)
    trainer.run()
    output = trainer.state.output
    assert isinstance(output, dict)
    torch.manual_seed(3)
    masked, hidden = with_hidden_pixels(x)
    expected = ((masked - x)[hidden == 1] ** 2).mean().item()
    assert output["blind_spot"] == pytest.approx(expected, rel=1e-5)


def test_white_noise_on_a_flat_image_is_learnt_away_from_noisy_images_alone() -> None:
    torch.manual_seed(0)
    batches = [{"noisy": (noisy := 0.2 + 0.1 * torch.randn(8, 1, 32, 32)), "clean": noisy} for _ in range(120)]
    extractor = NoiseExtractor(width=6, layers=4, silent_start=True)
    trainer = Noise2Void(
        device="cpu",
        max_epochs=1,
        train_data_loader=batches,
        noise_extractor=extractor,
        extractor_optimizer=Adam(extractor.parameters(), lr=1e-2),
    )
    trainer.run()
    x = 0.2 + 0.1 * torch.randn(4, 1, 32, 32)
    with torch.no_grad():
        left = (x - extractor(x)).std().item()
    assert left < 0.5 * x.std().item()
