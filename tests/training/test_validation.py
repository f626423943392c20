"""What is measured is what gets deployed, and what is kept is the best of what was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.inferers import SliceInferer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from iscl_monai.hu import HUWindow
from iscl_monai.networks import DenoisingNetwork, Generator, NoiseExtractor
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.quality.protocol import HU_BODY
from iscl_monai.training import DenoisingEvaluator, InOrder, MetricsWriter, ModelWriter, TensorBoard, Validation
from iscl_monai.training.handlers import scalars
from iscl_monai.training.validation import TRUTH_ERROR, MeanOfItems, summary

WINDOW = HUWindow(-1000, 1000)


class Times(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor)))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        return x * self.factor


def deployed(**options: Any) -> DenoisingNetwork:
    return DenoisingNetwork(
        denoiser=Generator(width=2, downsamplings=1, residual_blocks=1),
        noise_extractor=NoiseExtractor(width=2, layers=3),
        hu_window=WINDOW,
        **options,
    ).eval()


def simple(generator_factor: float, noise_factor: float, **options: Any) -> DenoisingNetwork:
    """F(x) = a x, H(x) = b x; (1, 0) is the identity."""
    network = deployed(**options)
    network.denoiser = Times(generator_factor)  # type: ignore[assignment]
    network.noise_extractor = Times(noise_factor)  # type: ignore[assignment]
    return network


def volume(slices: int = 3, *, pairs: bool = True, seed: int = 0, side: int = 48) -> dict[str, Tensor]:
    """A warm disc with noise in air, metal in it, as a batch of one: (1, 1, row, column, slice)."""
    random = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (side / 2.4) ** 2
    clean = torch.where(inside, 50.0, -1000.0)[..., None].repeat(1, 1, slices)
    clean[20:24, 20:24] = 2000
    clean = clean + 5 * torch.randn(clean.shape, generator=random)
    noisy_hu = (clean + 40 * torch.randn(clean.shape, generator=random))[None, None]
    item = {"noisy": WINDOW.to_network(noisy_hu), "noisy_hu": noisy_hu}
    return item | {"clean_hu": clean[None, None]} if pairs else item


def slices_of(item: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    return [{key: image[..., index] for key, image in item.items()} for index in range(item["noisy"].shape[-1])]


def evaluator(items: Sequence[Mapping[str, Tensor]], network: DenoisingNetwork, **options: Any) -> DenoisingEvaluator:
    return DenoisingEvaluator(device="cpu", val_data_loader=items, network=network, hu_window=WINDOW, **options)


def measured(items: Sequence[Mapping[str, Tensor]], network: DenoisingNetwork, **options: Any) -> dict[str, float]:
    made = evaluator(items, network, **options)
    made.run()
    return {name: value for name, value in made.state.metrics.items() if isinstance(value, float)}


# --- the evaluator -----------------------------------------------------------------------------------


def test_the_identity_measures_as_its_input() -> None:
    item = volume(1)
    metrics = measured(slices_of(item), simple(1, 0))
    truth = fidelity(item["noisy_hu"][0, 0].permute(2, 0, 1), item["clean_hu"][0, 0].permute(2, 0, 1)).mean()
    for quantity in ("psnr_db", "ssim", "rmse_hu", "mean_shift_hu"):
        for prefix in ("", "input_", "generator_", "extractor_"):
            assert metrics[prefix + quantity] == pytest.approx(getattr(truth, quantity), rel=1e-5, abs=1e-4)
    assert metrics["noise_hu"] == pytest.approx(metrics["input_noise_hu"])
    assert metrics["input_noise_hu"] == pytest.approx(40, rel=0.3)
    assert metrics["shift_from_input_hu"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("known", ["truth", "dose", ""])
def test_errors_to_the_truth_are_measured_where_it_or_the_dose_is_known(known: str) -> None:
    item = volume(1)
    flat = torch.where(item["clean_hu"] > -500, 50.0, -1000.0)
    flat[..., 20:24, 20:24, :] = 2000
    added = {"truth": {"truth_hu": flat}, "dose": {"dose": torch.tensor([25 / 1625])}, "": {}}[known]
    one = {key: image[..., 0] if image.ndim == 5 else image for key, image in {**item, **added}.items()}
    metrics = measured([one], simple(1, 0))
    assert (TRUTH_ERROR in metrics) == bool(known)
    if known:
        assert math.sqrt(metrics[f"input_{TRUTH_ERROR}"]) == pytest.approx(math.hypot(5, 40), rel=0.1)
        assert metrics[TRUTH_ERROR] == pytest.approx(metrics[f"input_{TRUTH_ERROR}"], rel=1e-4)
        assert "error to the truth" in summary(metrics)


def test_each_mode_is_measured_by_its_own_formula() -> None:
    """F halves, x - H takes a fifth away: the plain name is the one that is deployed."""
    items = [volume(1)]
    expected = {}
    for name, factor in {"generator": 0.5, "extractor": 0.8, "ensemble": 0.3 * 0.5 + 0.7 * 0.8}.items():
        expected[name] = measured(
            items, simple(factor, 0, mode="generator"), inferer=SliceInferer(roi_size=(-1, -1), spatial_dim=2)
        )
    for mode in expected:
        network = simple(0.5, 0.2, mode=mode, blend=0.3)
        metrics = measured(items, network, inferer=SliceInferer(roi_size=(-1, -1), spatial_dim=2))
        for other, alone in expected.items():
            prefix = "" if other == mode else f"{other}_"
            assert metrics[prefix + "rmse_hu"] == pytest.approx(alone["rmse_hu"], rel=1e-4)
            assert f"{mode}_psnr_db" not in metrics


@pytest.mark.parametrize("mode", ["ensemble", "generator", "extractor"])
def test_what_is_measured_is_what_the_network_answers(mode: str) -> None:
    """Far beyond [-1, 1] on purpose: F and x - H are clipped after they are blended, not before."""
    item = volume(1)
    network = simple(3.0, 2.5, mode=mode, blend=0.4)
    made = evaluator(slices_of(item), network, keep_images=True)
    made.run()
    with torch.no_grad():
        answer = WINDOW.apply_change(item["noisy_hu"][..., 0], network(item["noisy"][..., 0]))
    torch.testing.assert_close(made.state.output["denoised_hu"], answer[0], rtol=0, atol=1e-2)
    assert torch.equal(made.state.output["clean_hu"], item["clean_hu"][0, ..., 0])


def test_a_volume_is_measured_as_its_slices_one_by_one() -> None:
    network = deployed()
    item = volume(3)
    whole = measured([item], network, inferer=SliceInferer(roi_size=(-1, -1), spatial_dim=2))
    single = measured(slices_of(item), network)
    for name in ("psnr_db", "ssim", "rmse_hu", "mean_shift_hu", "input_psnr_db", "generator_rmse_hu", "extractor_ssim"):
        assert whole[name] == pytest.approx(single[name], rel=1e-4, abs=1e-4), name


def test_without_a_reference_the_panel_remains() -> None:
    metrics = measured(slices_of(volume(2, pairs=False)), simple(0.5, 0))
    assert {"noise_hu", "input_noise_hu", "shift_from_input_hu", "residual_correlation"} <= metrics.keys()
    assert math.isnan(metrics["psnr_db"])
    assert not {"ssim", "rmse_hu", "input_psnr_db"} & metrics.keys()
    assert metrics["noise_hu"] < metrics["input_noise_hu"]
    assert "PSNR" not in summary(metrics)
    assert "noise" in summary(metrics)


@pytest.mark.parametrize(("mode", "letters"), [("ensemble", ["F ", "x - H "]), ("generator", ["x - H "])])
def test_what_a_person_reads(mode: str, letters: list[str]) -> None:
    words = summary(measured([slices_of(volume(1))[0]], simple(1, 0, mode=mode)))
    assert HU_BODY.name in words
    assert [letter for letter in ("F ", "x - H ") if f"{letter}2" in words or f"{letter}3" in words] == letters


def test_the_mean_counts_only_what_was_measured() -> None:
    mean, every = MeanOfItems("a"), MeanOfItems(None)
    for item in ({"a": 1.0, "b": math.nan}, {"a": 2.0, "b": 5.0}, {"a": 6.0}):
        mean.update((item,))
        every.update((item,))
    assert mean.compute() == 3
    assert every.compute() == {"a": 3, "b": 5}
    mean.reset()
    assert math.isnan(mean.compute())  # type: ignore[arg-type]


# --- in the course of a training ---------------------------------------------------------------------


def validation(interval: int = 1, network: DenoisingNetwork | None = None) -> Validation:
    return Validation(evaluator([slices_of(volume(1))[0]], network or simple(0.5, 0.2)), interval=interval)


def trainer(*handlers: Any) -> Engine:
    engine = Engine(lambda engine, batch: {"cycle": 0.25 * engine.state.iteration, "x": torch.zeros(1)})
    for handler in handlers:
        handler.attach(engine)
    return engine


@pytest.mark.parametrize(("interval", "epochs", "at"), [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (10, 3, [3])])
def test_the_last_epoch_is_validated_too(interval: int, epochs: int, at: list[int]) -> None:
    made = validation(interval)
    trainer(made).run(range(2), max_epochs=epochs)
    assert [entry["epoch"] for entry in made.history] == at
    assert all("psnr_db" in entry for entry in made.history)
    continued = validation(interval)
    continued.load_state_dict(made.state_dict())
    assert continued.history == made.history
    assert continued.history is not made.history


class Told:
    """Stands in for a validation: a score per epoch, None for an epoch without validation."""

    def __init__(self, scores: Sequence[float | None]) -> None:
        self.scores = scores
        self.history: list[dict[str, float]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        score = self.scores[engine.state.epoch - 1]
        if score is not None:
            self.history.append({"epoch": float(engine.state.epoch), "psnr_db": score})


@pytest.mark.parametrize(
    ("scores", "best", "last"),
    [
        ([3.0, 5.0, 4.0], 2, 3),
        ([3.0, 5.0, 5.0], 3, 3),
        ([3.0, None, None], 1, 1),
        ([math.nan, math.nan, math.nan], 3, 3),
        ([4.0, None, 3.0], 1, 3),
    ],
)
def test_the_best_and_the_last_weights_are_kept(
    scores: list[float | None], best: int, last: int, tmp_path: Path
) -> None:
    """The blend stands for the weights: it is the number of the epoch, over ten."""
    network = deployed()
    scored: Any = Told(scores)
    engine = trainer()
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: network.blend.fill_(engine.state.epoch / 10))
    scored.attach(engine)
    ModelWriter(folder=tmp_path, network=network, validation=scored).attach(engine)
    engine.run(range(1), max_epochs=3)
    for name, epoch in (("model.pt", best), ("model_last.pt", last)):
        weights = torch.load(tmp_path / name, weights_only=True)
        assert weights.keys() == network.state_dict().keys()
        assert float(weights["blend"]) == pytest.approx(epoch / 10)
        assert all(type(tensor) is Tensor for tensor in weights.values())


def test_another_process_writes_no_weights(tmp_path: Path) -> None:
    scored: Any = Told([1.0])
    trainer(scored, ModelWriter(folder=tmp_path, network=deployed(), validation=scored, enabled=False)).run(range(1))
    assert not list(tmp_path.iterdir())


def test_handlers_in_order() -> None:
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.STARTED, lambda: order.append(self.name))

    trainer(InOrder([Named("a"), InOrder([Named("b"), Named("c")]), Named("d")])).run(range(1))
    assert order == ["a", "b", "c", "d"]


# --- TensorBoard -------------------------------------------------------------------------------------


def board(folder: Path, made: Validation, network: DenoisingNetwork, **options: Any) -> TensorBoard:
    slices = [{"noisy": item["noisy"][0]} for item in slices_of(volume(3))]
    return TensorBoard(
        log_dir=folder, hu_window=WINDOW, validation=made, network=network, slices=slices, every=2, **options
    )


def test_event_files_hold_losses_metrics_and_pictures(tmp_path: Path) -> None:
    made = validation()
    trainer(made, board(tmp_path, made, deployed())).run(range(4), max_epochs=2)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"loss/cycle", "validation/psnr_db", "validation/noise_hu"} <= set(tags["scalars"])
    assert "loss/x" not in tags["scalars"]
    assert [(e.step, e.value) for e in events.Scalars("loss/cycle")] == [(2, 0.5), (4, 1.0), (6, 1.5), (8, 2.0)]
    assert [e.step for e in events.Scalars("validation/psnr_db")] == [4, 8]
    assert tags["images"] == ["slice 0", "slice 1"]
    assert events.Images("slice 0")[0].width == 4 * 48


def test_a_panel_shows_input_both_answers_and_the_residual() -> None:
    network = simple(0.5, 0.1, keep_mean_px=0)
    x = torch.full((1, 8, 6), 0.4)
    x[0, 0, 0] = -1
    panel = board(Path("unused"), validation(), network).panel(x)
    assert panel.shape == (1, 8, 24)
    assert panel.min() >= 0
    assert panel.max() <= 1
    shown = [panel[0, 4, 6 * place].item() for place in range(4)]
    residual = (0.4 - (0.5 * 0.2 + 0.5 * 0.36)) * 1000 / 200  # of +-200 HU
    assert shown == pytest.approx([(v + 1) / 2 for v in (0.4, 0.2, 0.36, residual)])


def test_a_failed_training_still_fails_with_its_board(tmp_path: Path) -> None:
    made = validation()

    def step(engine: Engine, batch: Any) -> None:
        raise ArithmeticError("nan")

    engine = Engine(step)
    board(tmp_path, made, deployed()).attach(engine)
    with pytest.raises(ArithmeticError):
        engine.run(range(1))


def test_only_losses_are_scalars() -> None:
    assert scalars({"a": 1.0, "x": torch.zeros(1), "n": 3}) == {"a": 1.0}


# --- evaluation to a file ----------------------------------------------------------------------------


def strict(path: Path) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    content: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    return content


def test_metrics_are_written_with_their_protocol(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.json"
    made = evaluator(slices_of(volume(2)), simple(1, 0), val_handlers=[MetricsWriter(path=path)])
    made.run()
    content = strict(path)
    assert content["protocol"] == HU_BODY.identity
    assert content["items"] == 2
    assert content["psnr_db"] == made.state.metrics["psnr_db"]
    assert "all" not in content
    assert [file.name for file in path.parent.iterdir()] == ["metrics.json"]


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path) -> None:
    item = slices_of(volume(1))[0]
    item["clean_hu"] = item["noisy_hu"]  # an infinite PSNR
    evaluator([item], simple(1, 0), val_handlers=[MetricsWriter(path=tmp_path / "m.json")]).run()
    assert strict(tmp_path / "m.json")["psnr_db"] is None
