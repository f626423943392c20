"""One pure function per term of ISCL (Lee & Jeong, IEEE TMI 2021), and their weights.

Every function takes images of shape (batch, 1, rows, columns) in [-1, 1] or discriminator logits of any shape and
returns a scalar; all norms are mean absolute errors. Letters are the paper's: ``x`` noisy, ``y`` clean, ``n`` noise;
hat = output of a network, bar = arithmetic with the partner network, tilde = after a round trip.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import avg_pool2d, l1_loss, relu


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts. A weight of 0 switches its term off (the paper's ablations).

    Args:
        nested: lambda, on the sum of cycle, bypass, zero mean and harvest; 30 in the paper.
        cycle: on the cycle loss, inside the nested loss.
        bypass: on the bypass loss, inside the nested loss.
        boosting: on the discriminators' extra fakes.
        pseudo_noise: on the extractor's first term.
        noise_consistency: on the extractor's second term.
        zero_mean: on :func:`zero_mean_loss`, which is ours; 0 in the paper.
        adversarial: on the generators' adversarial loss.
        noisy_cycle: on the noisy half of the cycle loss, which asks F to let noise through; 0 leaves the clean half.
        harvest: on what harvested noise teaches F (inside the nested loss) and H; 0 in the paper.
        squared: share of :func:`squared_error` in what harvested noise teaches, the rest being mean absolute error.
    """

    nested: float = 30.0
    cycle: float = 1.0
    bypass: float = 1.0
    boosting: float = 1.0
    pseudo_noise: float = 1.0
    noise_consistency: float = 1.0
    zero_mean: float = 0.0
    adversarial: float = 1.0
    noisy_cycle: float = 1.0
    harvest: float = 0.0
    squared: float = 0.0

    @property
    def use_extractor(self) -> bool:
        """Whether any term needs H; without it ISCL is CycleGAN."""
        return any((self.bypass, self.boosting, self.pseudo_noise, self.noise_consistency, self.harvest))

    @property
    def use_discriminators(self) -> bool:
        """Whether anything learns from D_X and D_Y; else they need not be trained."""
        return self.adversarial > 0

    @property
    def use_degrader(self) -> bool:
        """Whether any term needs G."""
        return any((self.adversarial, self.cycle, self.noise_consistency, self.zero_mean))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge in the authors' form, fakes pushed below 0: ``relu(1 - D(real)) + relu(D(fake))``."""
    return relu(1 - real).mean() + relu(fake).mean()


def boosting_loss(x_bar_logits: Tensor, y_bar_logits: Tensor) -> Tensor:
    """The extractor's arithmetic fakes: ``relu(D_X(y + n_hat)) + relu(D_Y(x - n_hat))``."""
    return relu(x_bar_logits).mean() + relu(y_bar_logits).mean()


def adversarial_loss(x_hat_logits: Tensor, y_hat_logits: Tensor) -> Tensor:
    """What the generators want: ``-D_X(G(y)) - D_Y(F(x))``."""
    return -x_hat_logits.mean() - y_hat_logits.mean()


def cycle_loss(x: Tensor, x_tilde: Tensor, y: Tensor, y_tilde: Tensor, *, noisy: float = 1.0) -> Tensor:
    """``|x - G(F(x))| + |y - F(G(y))|``; ``noisy`` weighs the first half."""
    return noisy * l1_loss(x_tilde, x) + l1_loss(y_tilde, y)


def bypass_loss(y_hat: Tensor, y_bar: Tensor, y: Tensor, denoised_x_bar: Tensor) -> Tensor:
    """``|F(x) - (x - H(x))| + |y - F(y + H(x))|``."""
    return l1_loss(y_hat, y_bar) + l1_loss(denoised_x_bar, y)


def squared_error(image: Tensor, wanted: Tensor, noise: Tensor) -> Tensor:
    """Mean of ``(image - wanted)^2 / noise``: as large as an absolute error, and of the same sense at every dose.

    The mean absolute error asks for the median, which takes away a faint lesion that is rather not there; the squared
    one asks for the mean, in which it keeps its share.

    Args:
        image: what a network answered.
        wanted: what it should have.
        noise: of the network's input, in the same units, above 0.
    """
    return ((image - wanted).square() / noise).mean()


def harvest_loss(image: Tensor, wanted: Tensor, noise: Tensor, *, squared: float) -> Tensor:
    """Of what was learnt from harvested noise: absolute and squared error mixed.

    Args:
        image: see :func:`squared_error`.
        wanted: likewise.
        noise: likewise.
        squared: share of the squared error, 0 to 1.
    """
    if squared == 0:
        return l1_loss(image, wanted)
    return (1 - squared) * l1_loss(image, wanted) + squared * squared_error(image, wanted, noise)


def pseudo_noise_loss(n_hat: Tensor, n_bar: Tensor) -> Tensor:
    """``|H(x) - (x - F(x))|``."""
    return l1_loss(n_hat, n_bar)


def noise_consistency_loss(x_hat: Tensor, y: Tensor, n_tilde: Tensor) -> Tensor:
    """``|(G(y) - y) - H(G(y))|``."""
    return l1_loss(n_tilde, x_hat - y)


def reconstruction_loss(image: Tensor, reproduced: Tensor) -> Tensor:
    """``|image - network(image)|``: the warm-up's only wish of a generator, to reproduce its own domain."""
    return l1_loss(reproduced, image)


def zero_mean_loss(noise: Tensor, *, side: int = 16) -> Tensor:
    """Mean magnitude of the local mean of what is called noise; ours, not the paper's.

    All terms of the paper are blind to a shift that F takes away, G adds and H calls noise: F(x) - c, G(y) + c and
    H(x) + c satisfy cycle, bypass and both consistencies as well as c = 0 does, so Hounsfield values drift. But the
    noise of CT has next to no power at low frequencies (the ramp filter takes it), so its mean over a square of
    ``side`` pixels is nearly 0, whatever the tissue.

    Args:
        noise: ``x - F(x)``, ``G(y) - y`` or ``H(x)``.
        side: of the squares, in pixels.
    """
    return avg_pool2d(noise, side).abs().mean()
