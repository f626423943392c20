"""Golden values: every expected number is worked out by hand in the comment above it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor

from iscl_monai import losses
from iscl_monai.losses import LossWeights


def image(*values: float) -> Tensor:
    """A 2x2 image (1, 1, 2, 2)."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 2, 2)


def logits(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


X = image(0.5, -0.5, 0.25, 0.0)
Y = image(0.0, 1.0, -1.0, 0.5)


def test_discriminator_loss() -> None:
    # relu(1 - real): 1 - 2 < 0 -> 0; 1 - 0.5 = 0.5; 1 + 1 = 2; mean 2.5/3
    # relu(fake):     0; 0.25;                                mean 0.25/2
    loss = losses.discriminator_loss(logits(2, 0.5, -1), logits(-3, 0.25))
    assert loss.item() == pytest.approx(2.5 / 3 + 0.125, abs=1e-12)


def test_fakes_are_pushed_below_zero_and_not_below_minus_one() -> None:
    # The usual hinge, relu(1 + fake), would still give 0.5 here.
    assert losses.discriminator_loss(logits(1), logits(-0.5)).item() == 0


def test_boosting_loss() -> None:
    # relu(-1, 2) mean 1; relu(0.5, 1.5) mean 1
    assert losses.boosting_loss(logits(-1, 2), logits(0.5, 1.5)).item() == 2
    # relu(-1, 2) mean 1; relu(-4, -5) mean 0
    assert losses.boosting_loss(logits(-1, 2), logits(-4, -5)).item() == 1


def test_adversarial_loss() -> None:
    # -(1 + 3)/2 - (-4 + 1)/2 = -2 + 1.5
    assert losses.adversarial_loss(logits(1, 3), logits(-4, 1)).item() == -0.5


def test_cycle_loss() -> None:
    # |x - x~| = 0.5, 0.5, 0, 1         mean 0.5
    # |y - y~| = 0.25, 0, 1, 0          mean 0.3125
    x_tilde, y_tilde = image(0.0, 0.0, 0.25, 1.0), image(0.25, 1.0, 0.0, 0.5)
    assert losses.cycle_loss(X, x_tilde, Y, y_tilde).item() == 0.8125


def test_bypass_loss() -> None:
    # y^ = F(x), y- = x - H(x) with H(x) = 0.25, -0.25, 0, 0.5: y- = 0.25, -0.25, 0.25, -0.5
    # |y^ - y-| with y^ = 0: 0.25, 0.25, 0.25, 0.5    mean 0.3125
    # |y - F(x-)| with F(x-) = 0: 0, 1, 1, 0.5         mean 0.625
    y_bar = X - image(0.25, -0.25, 0.0, 0.5)
    zero = torch.zeros_like(X)
    assert losses.bypass_loss(zero, y_bar, Y, zero).item() == 0.9375


def test_pseudo_noise_loss() -> None:
    # n- = x - F(x) with F(x) = 0.25 everywhere: 0.25, -0.75, 0, -0.25; n^ = 0.25
    # |n^ - n-| = 0, 1, 0.25, 0.5                      mean 0.4375
    assert losses.pseudo_noise_loss(torch.full_like(X, 0.25), X - 0.25).item() == 0.4375


def test_noise_consistency_loss() -> None:
    # x^ - y = 0.5, -1.5, 1.25, -0.5 with x^ = X; n~ = 0.5
    # |n~ - (x^ - y)| = 0, 2, 0.75, 1                  mean 0.9375
    assert losses.noise_consistency_loss(X, Y, torch.full_like(X, 0.5)).item() == 0.9375


def test_reconstruction_loss() -> None:
    # 0.5, 1.5, 1.25, 0.5                              mean 0.9375
    assert losses.reconstruction_loss(X, Y).item() == 0.9375


def test_zero_mean_loss() -> None:
    # 2x4 in squares of 2: means (1 + 2 + 3 - 2)/4 = 1 and (-4 + 0 + 0 + 1)/4 = -0.75; mean magnitude 0.875
    noise = torch.tensor([[1.0, 2.0, -4.0, 0.0], [3.0, -2.0, 0.0, 1.0]])[None, None]
    assert losses.zero_mean_loss(noise, side=2).item() == 0.875


def test_zero_mean_loss_is_blind_to_noise_that_sums_to_zero_on_each_square() -> None:
    squares = torch.randn(2, 1, 3, 16, 4, 16)
    noise = (squares - squares.mean(dim=(3, 5), keepdim=True)).reshape(2, 1, 48, 64)
    assert losses.zero_mean_loss(noise).item() < 1e-7
    for shift in (0.3, -0.3):
        assert losses.zero_mean_loss(noise + shift).item() == pytest.approx(0.3, abs=1e-6)


def test_losses_are_means_and_not_sums() -> None:
    # Any image repeated over batch, rows and columns costs the same.
    def many(tensor: Tensor) -> Tensor:
        return tensor.repeat(3, 1, 16, 16)

    for loss in (losses.pseudo_noise_loss, losses.reconstruction_loss):
        assert loss(many(X), many(Y)).item() == pytest.approx(loss(X, Y).item())
    assert losses.cycle_loss(many(X), many(Y), many(Y), many(X)).item() == pytest.approx(2 * 0.9375)


def rough(image: Tensor, step: int) -> Tensor:
    """A high-pass: a constant more or less changes nothing."""
    return image - image.roll((step, 1), dims=(-2, -1))


def shifted_terms(x: Tensor, y: Tensor, shift: float) -> tuple[dict[str, float], float]:
    """The paper's terms, and ours, if F takes ``shift`` away, G adds it and H calls it noise."""

    def denoiser(image: Tensor) -> Tensor:
        return image - 0.3 * rough(image, 1) - shift

    def degrader(image: Tensor) -> Tensor:
        return image + 0.4 * rough(image, 2) + shift

    def noise_extractor(image: Tensor) -> Tensor:
        return 0.2 * rough(image, 3) + shift

    y_hat, x_hat, n_hat = denoiser(x), degrader(y), noise_extractor(x)
    paper = {
        "cycle": losses.cycle_loss(x, degrader(y_hat), y, denoiser(x_hat)).item(),
        "bypass": losses.bypass_loss(y_hat, x - n_hat, y, denoiser(y + n_hat)).item(),
        "pseudo_noise": losses.pseudo_noise_loss(n_hat, x - y_hat).item(),
        "noise_consistency": losses.noise_consistency_loss(x_hat, y, noise_extractor(x_hat)).item(),
    }
    # The mean over a periodic image of a high-pass is 0, and so is what our term sees of it with one square.
    called_noise = (x - y_hat, x_hat - y, n_hat)
    return paper, sum(losses.zero_mean_loss(noise, side=16).item() for noise in called_noise)


def test_a_shift_shared_by_f_g_and_h_is_seen_by_our_term_alone() -> None:
    x, y = torch.rand(2, 1, 16, 16, dtype=torch.float64), torch.rand(2, 1, 16, 16, dtype=torch.float64)
    straight, straight_ours = shifted_terms(x, y, 0.0)
    assert min(straight.values()) > 0.01
    assert straight_ours == pytest.approx(0, abs=1e-12)

    shifted, shifted_ours = shifted_terms(x, y, -0.25)
    assert shifted == pytest.approx(straight, abs=1e-12)
    assert shifted_ours == pytest.approx(3 * 0.25, abs=1e-12)


def test_default_weights_are_the_papers() -> None:
    assert LossWeights() == LossWeights(
        nested=30.0, cycle=1.0, bypass=1.0, boosting=1.0, pseudo_noise=1.0, noise_consistency=1.0, zero_mean=0.0
    )


def test_weights_are_for_a_whole_training() -> None:
    weights = LossWeights()
    with pytest.raises(FrozenInstanceError):
        weights.nested = 1.0  # type: ignore[misc]


def test_without_all_of_its_terms_the_extractor_is_not_used() -> None:
    nothing = {"bypass": 0.0, "boosting": 0.0, "pseudo_noise": 0.0, "noise_consistency": 0.0}
    assert not LossWeights(**nothing, zero_mean=1.0).use_extractor
    for term in nothing:
        assert LossWeights(**{**nothing, term: 0.5}).use_extractor
