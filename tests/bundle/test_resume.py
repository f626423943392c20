"""A run that was killed and started again ends as the run that was left alone, bit for bit."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from programs import Programs

from iscl_monai.data import Datalist, RunSampler
from iscl_monai.errors import CheckpointRefusal
from iscl_monai.networks import DenoisingNetwork, UNetGenerator
from iscl_monai.training import RunCheckpoint

ROOT = Path(__file__).resolve().parents[2]


def leaves(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and plain value of a nested checkpoint, with its place."""
    if isinstance(content, (dict, list, tuple)):
        for name, child in content.items() if isinstance(content, dict) else enumerate(content):
            yield from leaves(child, f"{place}/{name}")
    else:
        yield place, content


def differences(one: Path, other: Path) -> list[str]:
    """Places where two files of tensors differ."""
    a, b = (dict(leaves(torch.load(path, weights_only=True))) for path in (one, other))
    assert len(a) > 5
    same = {place for place in a.keys() & b.keys() if alike(a[place], b[place])}
    return sorted((a.keys() | b.keys()) - same)


def alike(one: Any, other: Any) -> bool:
    """The same to the last bit; what could not be measured (NaN) may be so on both sides."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other or (one != one and other != other))


def kill_in_epoch_two(programs: Programs, command: list[str], first: Path) -> None:
    """Start the command; kill -9 once the first epoch is saved and the bar shows a step of the second."""
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as bar, open(os.devnull, "w") as nothing:
        with os.fdopen(write, "wb") as errors:
            program = programs.start(command, output=nothing, errors=errors, OMP_NUM_THREADS="1")
        seen = b""
        while piece := bar.read(256):
            seen += piece
            if b"epoch [2/3]: [1/" in seen and first.exists():
                program.kill()
                break
        assert program.wait() == -signal.SIGKILL, seen.decode()


def test_a_killed_run_continues_bit_for_bit(
    trained: Any, training_words: Callable[..., list[str]], programs: Programs, tmp_path: Path
) -> None:
    command = training_words(tmp_path)
    checkpoints = tmp_path / "out" / "checkpoints"
    first = checkpoints / "checkpoint_epoch=1.pt"
    kill_in_epoch_two(programs, command, first)
    assert sorted(checkpoints.glob("checkpoint*.pt")) == [first], "not killed in the middle of the second epoch"
    assert torch.load(first, weights_only=True)["epoch"] == 1
    torch.load(tmp_path / "models" / "model.pt", weights_only=True)

    again = programs.run(command, OMP_NUM_THREADS="1")
    assert again.returncode == 0, again.stderr
    assert "continuing after epoch 1" in again.stdout
    names = ["checkpoint_epoch=2.pt", "checkpoint_epoch=3.pt"]
    assert sorted(path.name for path in checkpoints.glob("*.pt")) == names
    for name in names:
        assert differences(checkpoints / name, trained.output_dir / "checkpoints" / name) == []
    for name in ("model.pt", "model_last.pt"):
        assert differences(tmp_path / "models" / name, trained.ckpt_dir / name) == []


def write_flat_bodies(folder: Path) -> None:
    """Scans with enough flat tissue to harvest noise from, as NIfTI, and their datalist."""
    entries: dict[str, list[dict[str, str]]] = {"noisy": [], "clean": [], "validation": []}
    for number, (pool, noise_hu) in enumerate([("noisy", 40.0), ("clean", 10.0), ("pair", 40.0), ("pair", 10.0)]):
        body = np.full((128, 128, 3), -1000.0)
        body[16:112, 16:112] = 40
        body += noise_hu * np.random.default_rng(number).standard_normal(body.shape)
        name = f"{pool}{number}.nii.gz"
        nibabel.Nifti1Image(body.astype(np.int16), np.diag([-1.0, -1.0, 2.0, 1.0])).to_filename(folder / name)
        if pool != "pair":
            entries[pool].append({"image": name, "patient": name})
    entries["validation"].append({"noisy": "pair2.nii.gz", "clean": "pair3.nii.gz", "patient": "pair"})
    (folder / "datalist.json").write_text(json.dumps(entries))


def test_a_run_with_harvested_noise_continues_bit_for_bit(workflow: Callable[..., Any], tmp_path: Path) -> None:
    """U-Nets, harvested noise and lesions: the last epoch, done again after the one before it."""
    write_flat_bodies(tmp_path)
    small = {"width": 4, "discriminator_width": 2, "batch_size": 2, "steps_per_epoch": 2, "num_workers": 0}
    settings = {**small, "epochs": 3, "warm_up_steps": 3, "validation_slices": 1, "dataset_dir": tmp_path}
    whole, again = tmp_path / "whole", tmp_path / "again"
    workflow("train", "unet", output_dir=whole / "out", ckpt_dir=whole / "models", **settings).run()
    shutil.copytree(whole, again)
    last = Path("out/checkpoints/checkpoint_epoch=3.pt")
    (again / last).unlink()
    workflow("train", "unet", output_dir=again / "out", ckpt_dir=again / "models", **settings).run()
    assert differences(whole / last, again / last) == []
    assert differences(whole / "models" / "model_last.pt", again / "models" / "model_last.pt") == []
    trained = DenoisingNetwork.from_weights(torch.load(whole / "models" / "model_last.pt", weights_only=True))
    assert isinstance(trained.denoiser, UNetGenerator)
    assert 0.004 < float(trained.denoiser.wanted_noise) < 0.01, "the clean pool has 10 HU"


def test_harvested_noise_alone_teaches_f_and_h_from_the_first_step_to_the_last(
    workflow: Callable[..., Any], tmp_path: Path
) -> None:
    write_flat_bodies(tmp_path)
    settings = {"width": 4, "discriminator_width": 2, "batch_size": 2, "num_workers": 0, "validation_slices": 1}
    settings |= {"epochs": 1, "steps_per_epoch": 2, "dataset_dir": tmp_path}
    run = workflow("train", "unet", "harvest_alone", output_dir=tmp_path / "out", ckpt_dir=tmp_path / "m", **settings)
    run.run()
    output = run.parser.get_parsed_content("train#trainer").state.output
    assert {name for name, value in output.items() if isinstance(value, float)} == {"harvest", "harvested_noise"}


def test_fine_tuning_starts_from_weights_and_keeps_them_unless_others_are_better(
    workflow: Callable[..., Any], tmp_path: Path
) -> None:
    write_flat_bodies(tmp_path)
    small = {"width": 4, "discriminator_width": 2, "batch_size": 2, "num_workers": 0, "validation_slices": 1}
    settings = {**small, "epochs": 1, "steps_per_epoch": 2, "dataset_dir": tmp_path, "averaged": False}
    configs = ("train", "unet", "harvest_alone")
    workflow(*configs, output_dir=tmp_path / "out", ckpt_dir=tmp_path / "m", **settings).run()
    start = tmp_path / "m" / "model.pt"
    record = json.loads(start.with_name("training.json").read_text())
    start.with_name("training.json").write_text(json.dumps({**record, "patients": ["earlier"]}))

    def tuned(name: str, *more: str, **changes: Any) -> tuple[Path, list[dict[str, float]]]:
        places = {"output_dir": tmp_path / name, "ckpt_dir": tmp_path / name / "models"}
        own = {**settings, **places, "start_from": str(start), **changes}
        workflow(*configs, *more, **own).run()
        content = json.loads((tmp_path / name / "models" / "validation.json").read_text())
        return tmp_path / name / "models" / "model.pt", content["history"]

    model, history = tuned("wild", learning_rate=0.5)
    assert [entry["epoch"] for entry in history] == [0, 1]
    assert history[1]["psnr_db"] < history[0]["psnr_db"]
    assert differences(model, start) == [], "worse weights came in the place of better ones"
    known = json.loads(model.with_name("training.json").read_text())["patients"]
    assert known == sorted(["earlier", *record["patients"]]), "whom the start was trained on is known, too"
    model, history = tuned("gentle", "fine_tune", width=4, learning_rate=1e-3)
    assert history[1]["psnr_db"] != history[0]["psnr_db"]
    assert differences(model, start) == [] or history[1]["psnr_db"] > history[0]["psnr_db"]
    with pytest.raises(RuntimeError) as refused:
        tuned("other", width=6)
    assert "UNetDescription(width=4" in str(causes(refused.value)[-1])


def causes(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__
    return found


def test_the_comparison_sees_a_difference(tmp_path: Path) -> None:
    for name, last in (("a", 1.0), ("b", 1.0 + 1e-7)):
        content = {str(index): torch.zeros(2) for index in range(6)} | {"last": [torch.tensor(last)]}
        torch.save(content, tmp_path / name)
    assert differences(tmp_path / "a", tmp_path / "b") == ["/last/0"]


def test_a_finished_run_started_again_does_nothing(
    trained: Any, workflow: Callable[..., Any], tiny: dict[str, Any], phantom: Path
) -> None:
    places = {"output_dir": trained.output_dir, "ckpt_dir": trained.ckpt_dir, "dataset_dir": phantom}
    before = {path: path.stat().st_mtime_ns for path in trained.output_dir.rglob("*.pt")}
    again = workflow("train", **places, **tiny)
    again.run()
    assert {path: path.stat().st_mtime_ns for path in trained.output_dir.rglob("*.pt")} == before
    assert again.parser.get_parsed_content("train#trainer").state.iteration == 15


def test_resume_false_refuses_a_folder_with_checkpoints(
    trained: Any, workflow: Callable[..., Any], tiny: dict[str, Any], phantom: Path
) -> None:
    places = {"output_dir": trained.output_dir, "ckpt_dir": trained.ckpt_dir, "dataset_dir": phantom}
    with pytest.raises(RuntimeError) as caught:
        workflow("train", **places, **tiny, resume=False).run()
    assert "already holds checkpoint_epoch=3.pt" in str(caught.value.__cause__)


# --- what a resume refuses ---------------------------------------------------------------------------

OTHER: dict[str, Any] = {
    "seed": 1,
    "batch_size": 3,
    "patch_size": 32,
    "steps_per_epoch": 6,
    "hu_lower": -900,
    "hu_upper": 900,
    "skip": "none",
    "warm_up_steps": 3,
    "learning_rate": 2e-4,
    "final_learning_rate": 1e-6,
    "averaging_start": 0.5,
    "averaged": False,
    "amp": True,
    "nested_weight": 2.0,
    "cycle_weight": 2.0,
    "bypass_weight": 2.0,
    "boosting_weight": 2.0,
    "pseudo_noise_weight": 2.0,
    "noise_consistency_weight": 2.0,
    "zero_mean_weight": 2.0,
    "clip_fakes": False,
    "adversarial_weight": 2.0,
    "noisy_cycle_weight": 0.0,
    "harvest_weight": 1.0,
    "simulated_share": 0.5,
    "dead_leaves_share": 0.5,
    "cooperating_share": 0.5,
    "structures": 1,
    "coarsest": 2.0,
    "squared_share": 0.5,
    "lesions": 3,
    "blend": 0.25,
    "choose_blend": False,
    "mode": "generator",
    "keep_mean_px": 5,
    "statistics": "per_slice",
    "validation_slices": 2,
    "trainer": "noise2void",
}
MAY_CHANGE: dict[str, Any] = {
    "epochs": 4,
    "num_workers": 1,
    "device": "$torch.device('cpu')",
    "val_interval": 2,
    "checkpoint_interval": 2,
}


def resumed_with(made: Any, trained: Any) -> None:
    """What the run does first: its checkpoint compared with the settings of the config and the scans."""
    parser = made.parser
    assert parser["train#checkpoint#scans"] == "@scans"
    names = parser["train#checkpoint#settings"]
    checkpoint = RunCheckpoint(
        folder=trained.output_dir / "checkpoints",
        parts={},
        sampler=RunSampler(100),
        batch_size=1,
        settings={name: parser.get_parsed_content(f"train#checkpoint#settings#{name}") for name in names},
        scans=parser.get_parsed_content("scans"),
    )
    checkpoint.load(Engine(lambda *_: None))


@pytest.mark.parametrize("name", OTHER)
def test_another_setting_is_refused_by_name(
    name: str, trained: Any, workflow: Callable[..., Any], tiny: dict[str, Any], phantom: Path
) -> None:
    configs, change = ([OTHER[name]], {}) if name == "trainer" else ([], {name: OTHER[name]})
    with pytest.raises(CheckpointRefusal, match=f"the run began with {name}=.*now it is .*another --output_dir"):
        resumed_with(workflow("train", *configs, dataset_dir=phantom, **(tiny | change)), trained)


def test_what_may_change_is_not_refused(
    trained: Any, workflow: Callable[..., Any], tiny: dict[str, Any], phantom: Path
) -> None:
    for change in ({}, *({name: value} for name, value in MAY_CHANGE.items())):
        resumed_with(workflow("train", dataset_dir=phantom, **(tiny | change)), trained)


def test_the_readme_names_just_these_settings(workflow: Callable[..., Any]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("### Resume")[2].partition("### Several")[0]
    refused = text.partition("- another value of")[2].partition("- networks")[0]
    free = text.partition("`epochs`")
    named = set(re.findall(r"`(\w+)`", refused))
    settings = set(workflow("train").parser["train#checkpoint#settings"])
    assert named == settings == set(OTHER)
    assert set(re.findall(r"`(\w+)`", free[1] + free[2].partition("may change")[0])) == set(MAY_CHANGE)


def test_another_byte_in_one_scan_is_refused_by_the_whole_run(
    trained: Any, workflow: Callable[..., Any], tiny: dict[str, Any], phantom: Path, tmp_path: Path
) -> None:
    """The dataset is elsewhere and all dates are new: that alone is no change."""
    moved, run = tmp_path / "moved", tmp_path / "run"
    shutil.copytree(phantom, moved, copy_function=shutil.copyfile)
    shutil.copytree(trained.output_dir, run)
    places = {"output_dir": run, "ckpt_dir": tmp_path / "models", "dataset_dir": moved}
    workflow("train", **places, **tiny).run()
    scan = Datalist.load(moved).clean[0].image
    file = next(path for path in sorted(scan.rglob("*")) if path.is_file())
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RuntimeError) as caught:
        workflow("train", **places, **tiny).run()
    said = str(caught.value.__cause__)
    assert f"the run began on other scans: clean scan {scan.relative_to(moved)}: image has the same names" in said
