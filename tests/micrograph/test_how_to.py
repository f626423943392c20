"""What stands in the how-to runs as it stands there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from programs import Programs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "micrographs.md"


def test_the_python_of_the_how_to_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sections").mkdir()
    grey = np.random.default_rng(0).integers(90, 110, (4, 600, 40), np.uint8)
    for number, image in enumerate(grey):
        tifffile.imwrite(f"sections/z{number}.tif", image)
    blocks = re.findall(r"```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    known: dict[str, object] = {"denoised": lambda image: 0 * image + 100}
    for block in blocks:
        exec(block, known)  # our own page
    written = np.stack([tifffile.imread(f"denoised/z{number}.tif") for number in range(4)])
    assert (written == 100).all()
    assert np.array_equal(known["image"], grey[3])


TINY = (
    "--epochs 1 --steps_per_epoch 2 --warm_up_steps 1 --width 2 --extractor_layers 3 --residual_blocks 1 "
    "--discriminator_width 2 --batch_size 2 --validation_slices 1 --num_workers 0 --patch_size 64"
)


def test_from_tiff_to_a_bundle_to_denoised_tiff(tmp_path: Path, programs: Programs) -> None:
    rng = np.random.default_rng(0)
    for folder, noise in (("clean", 3), ("noisy", 30)):
        (tmp_path / folder).mkdir()
        for number in range(0, 176, 16):
            image = 128 + 60 * np.sin(np.arange(72) / 9) + rng.normal(0, noise, (66, 72))
            tifffile.imwrite(tmp_path / folder / f"z{number:03}.tif", image.clip(0, 255).astype(np.uint8))
    section = PAGE.read_text(encoding="utf-8").split("## From TIFF to denoised TIFF")[1]
    once, three = re.findall(r"```sh\n(.+?)```", section, re.DOTALL)[:2]
    commands = [*once.splitlines(), *three.splitlines()]
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command)
        words = ["-m", "iscl_monai.cli", *words[1:]] if words[0] == "iscl-monai" else words[1:]
        if "training" in words:
            words += shlex.split(TINY)
        done = programs.run(words[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    looks = json.loads((tmp_path / "film" / "models" / "training.json").read_text())["appearance"]
    assert 100 < looks["brightness"][0] <= looks["brightness"][1] < 150
    for path in sorted((tmp_path / "noisy").iterdir()):
        before, after = tifffile.imread(path), tifffile.imread(tmp_path / "denoised" / path.name)
        assert after.dtype == np.uint8
        assert (before != after).any()
