"""A whole check: a phantom for each run, the same again on demand, and what was denoised is not denoised again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation.qa.denoisers import Made
from scipy.ndimage import gaussian_filter

from iscl_monai.errors import ImageRefusal
from iscl_monai.evaluation.qa import FIXED_SEED, QUICK, Limits, Plan, check
from iscl_monai.evaluation.qa.check import drawn_seed
from iscl_monai.evaluation.qa.denoised import Denoising
from iscl_monai.evaluation.qa.phantom import Phantom
from iscl_monai.evaluation.qa.strength import curves_of, slices_at, strength_sections

SMALL = replace(QUICK, pixels=128, spacing_mm=2.6, realisations=6, doses=(1.0,))


@contextmanager
def no_bar(work: str, total: int) -> Iterator[Callable[[int], object]]:
    yield lambda done: None


class KilledError(Exception):
    pass


class Counting(Made):
    """Counts the slices it was asked for, and may be killed at one of them."""

    def __init__(self, killed_at: int | None = None) -> None:
        super().__init__(lambda image: 0.9 * image)
        self.slices, self.killed_at = 0, killed_at

    def change_hu(self, slice_hu: np.ndarray) -> np.ndarray:
        if self.slices == self.killed_at:
            raise KilledError
        self.slices += 1
        return super().change_hu(slice_hu)


def test_a_killed_check_goes_on_where_it_was(tmp_path: Path) -> None:
    lines: list[str] = []
    plan = Plan(size=SMALL, doses=(1.0,), limits=Limits.proposed())
    whole, killed, resumed = Counting(), Counting(killed_at=40), Counting()

    def run(denoiser: Counting) -> dict[str, object]:
        return check(tmp_path / "out", denoiser, plan, say=lines.append, bar=no_bar).to_json()

    with pytest.raises(KilledError):
        run(killed)
    assert not (tmp_path / "out").exists()
    found = run(resumed)
    assert lines[0] == lines[1]  # the same seed
    seed = int(lines[0].split()[3].rstrip(";"))
    again = check(tmp_path / "again", whole, replace(plan, seed=seed), say=lines.append, bar=no_bar).to_json()
    assert again == found
    assert resumed.slices <= whole.slices - 38


def test_each_run_draws_a_seed_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    seeds = [drawn_seed(folder) for folder in folders]
    assert seeds[0] != seeds[1]
    assert FIXED_SEED not in seeds
    assert seeds == [drawn_seed(folder) for folder in folders]


def test_a_denoiser_of_volumes_must_give_a_volume() -> None:
    class Wrong(Made):
        def change_volume_hu(self, volume_hu: np.ndarray) -> np.ndarray:
            return volume_hu[:1]

    with pytest.raises(ImageRefusal, match="a change of shape"):
        Denoising(Wrong(lambda image: image))("water", np.zeros((3, 32, 32), np.float32))


def test_curves_of_the_anatomy_start_at_the_noisy_scan_and_know_what_noise_is_left(phantom: Phantom) -> None:
    slices = slices_at(phantom, 0.25)
    assert {one.group for one in slices} == {"phantom anatomy"}
    assert len({one.patient for one in slices}) == 2
    assert all(np.abs(one.noise_hu.mean()) < 5 for one in slices)  # neither lesions nor anatomy are taken for noise
    same, blurred = curves_of([Made(lambda hu: hu, "same"), Made(lambda hu: gaussian_filter(hu, 1), "blur")], slices)
    assert np.ptp(same.values["noise reduction"]) == 0
    assert blurred.values["noise reduction"][-1] > 0.2
    assert blurred.values["contrast 20 HU 2 px"][-1] < 0.95
    plots, *tables = strength_sections([same, blurred], 0.25, spacing_mm=1.4)
    assert plots.title == "At equal noise, 25 % of the dose"
    assert plots.intro.endswith("px: radius in pixels. A pixel is 1.4 mm here.")
    assert [table.title.partition(",")[0] for table in tables] == [
        *(f"At {share} % less noise" for share in (30, 50, 70)),
        "Each method as it is",
    ]
