from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.optim import RAdam

from iscl_monai.networks import Generator
from iscl_monai.networks.normalization import normalisations
from iscl_monai.training import SupervisedTwin


def pair() -> dict[str, Tensor]:
    clean = torch.full((2, 1, 16, 16), -0.5)
    clean[..., 4:12, 4:10] = 0.4
    return {"noisy": clean + 0.1 * torch.randn_like(clean), "clean": clean}


def twin(denoiser: Generator, batch: dict[str, Tensor], *, steps: int, lr: float) -> tuple[SupervisedTwin, list[float]]:
    trainer = SupervisedTwin(
        device="cpu",
        max_epochs=1,
        train_data_loader=[batch] * steps,
        denoiser=denoiser,
        generator_optimizer=RAdam(denoiser.parameters(), lr=lr),
    )
    losses: list[float] = []

    def keep(engine: Engine) -> None:
        output = trainer.state.output
        assert isinstance(output, dict)
        losses.append(output["supervised"])

    trainer.add_event_handler(Events.ITERATION_COMPLETED, keep)
    return trainer, losses


def test_a_tiny_pair_is_learnt() -> None:
    trainer, losses = twin(Generator(width=4, residual_blocks=1), pair(), steps=40, lr=1e-2)
    trainer.run()
    assert len(losses) == 40
    assert losses[-1] < 0.4 * losses[0]


def test_one_step_is_radam_on_the_mean_absolute_error_to_the_clean_image() -> None:
    denoiser = Generator(width=2, residual_blocks=1)
    expected = Generator(width=2, residual_blocks=1)
    expected.load_state_dict(denoiser.state_dict())
    batch = pair()
    optimizer = RAdam(expected.parameters(), lr=1e-3)
    (loss := (expected(batch["noisy"]) - batch["clean"]).abs().mean()).backward()
    optimizer.step()
    with torch.no_grad():
        for norm in normalisations(expected):
            norm.rho.clamp_(0, 1)

    trainer, losses = twin(denoiser, batch, steps=1, lr=1e-3)
    trainer.run()

    assert losses == [loss.item()]
    torch.testing.assert_close(denoiser.state_dict(), expected.state_dict(), rtol=0, atol=1e-7)
    output = trainer.state.output
    assert isinstance(output, dict)
    assert torch.equal(output["x"], batch["noisy"])
    assert not output["y_hat"].requires_grad


def test_rho_stays_between_zero_and_one() -> None:
    denoiser = Generator(width=2, residual_blocks=1)
    trainer, _ = twin(denoiser, pair(), steps=3, lr=0.5)
    trainer.run()
    rho = torch.cat([norm.rho.detach() for norm in normalisations(denoiser)])
    assert (rho < 1).any(), "nothing moved: the test shows nothing"
    assert (rho == 1).any()
    assert rho.max() <= 1
