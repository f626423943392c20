"""Checkpoints: whole or not there, of this very run or refused."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from torch import nn

from iscl_monai.data import Datalist, RunSampler
from iscl_monai.errors import CheckpointRefusal
from iscl_monai.networks import DenoisingNetwork
from iscl_monai.training import RunCheckpoint
from iscl_monai.weights import load_tensors, save_durably

# --- files -------------------------------------------------------------------------------------------


def test_a_file_saved_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.pt"
    save_durably({"w": torch.arange(3), "n": [1, 2.5, None]}, path)
    content = load_tensors(path)
    assert torch.equal(content["w"], torch.arange(3))
    assert content["n"] == [1, 2.5, None]
    assert [file.name for file in path.parent.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("failing", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_the_old_file(
    failing: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    save_durably("old", path)
    names_meanwhile: list[str] = []

    def half(content: Any, file: Any) -> None:
        file.write(b"PK half a file")
        file.flush()
        names_meanwhile.extend(found.name for found in tmp_path.glob("*.pt"))
        raise failing

    monkeypatch.setattr(torch, "save", half)
    for target in (path, tmp_path / "first.pt"):
        with pytest.raises(type(failing)):
            save_durably("new", target)
    assert names_meanwhile == ["a.pt", "a.pt"], "a half file stood under a final name"
    assert load_tensors(path) == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_the_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    done: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("fsync"), real_fsync(file))[1])
    monkeypatch.setattr(Path, "replace", lambda one, to: (done.append("replace"), real_replace(one, to))[1])
    save_durably("x", tmp_path / "a.pt")
    assert done == ["fsync", "replace", "fsync"]


class Malicious:
    def __reduce__(self) -> tuple[Any, Any]:
        return (print, ("code in a checkpoint ran",))


def test_code_in_a_file_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Malicious(), tmp_path / "evil.pt")
    with pytest.raises(CheckpointRefusal, match=r"evil\.pt"):
        load_tensors(tmp_path / "evil.pt")
    assert capsys.readouterr().out == ""


@given(garbage=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_garbage_is_refused(garbage: bytes, tmp_path: Path) -> None:
    (tmp_path / "garbage.pt").write_bytes(garbage)
    with pytest.raises(CheckpointRefusal, match=r"garbage\.pt"):
        load_tensors(tmp_path / "garbage.pt")


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), old=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_a_flipped_byte_is_refused_or_harmless(place: float, value: int, old: bool, tmp_path: Path) -> None:
    path = tmp_path / "flipped.pt"
    torch.save({"w": torch.arange(3.0), "n": [1, None]}, path, _use_new_zipfile_serialization=not old)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(content)
    with contextlib.suppress(CheckpointRefusal):
        load_tensors(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    whole = tmp_path / "whole.pt"
    save_durably({"w": torch.rand(100)}, whole)
    content = whole.read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointRefusal, match=r"cut\.pt"):
        load_tensors(tmp_path / "cut.pt")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefusal, match="gone"):
        load_tensors(tmp_path / "gone.pt")


@pytest.mark.parametrize("content", [nn.Linear(2, 3).state_dict(), [1, 2], "text", {1: 2}, {}])
def test_weights_of_anything_else_are_refused_by_the_name_of_their_file(content: object, tmp_path: Path) -> None:
    save_durably(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointRefusal, match=r"/w\.pt: weights"):
        DenoisingNetwork.from_file(tmp_path / "w.pt")
    with pytest.raises(CheckpointRefusal, match=r"gone\.pt does not exist"):
        DenoisingNetwork.from_file(tmp_path / "gone.pt")


# --- runs --------------------------------------------------------------------------------------------


class Run:
    """Three iterations per epoch that train a line with momentum on random numbers of three generators."""

    def __init__(self, folder: Path, *, width: int = 2, seed: int = 5, **checkpoint: Any) -> None:
        for generator in (random.seed, np.random.seed, torch.manual_seed):
            generator(seed)
        self.network = nn.Linear(width, 1)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.sampler = RunSampler(1000)
        self.drawn: list[float] = []
        self.engine = Engine(self._step)
        self.checkpoint = RunCheckpoint(
            folder=folder,
            parts={"network": self.network, "optimizer": self.optimizer},
            sampler=self.sampler,
            batch_size=4,
            **checkpoint,
        )
        self.checkpoint.attach(self.engine)

    def _step(self, engine: Engine, batch: Any) -> None:
        x = torch.rand(4, self.network.in_features) + random.random() + np.random.rand()
        self.drawn.append(float(x.sum()))
        self.optimizer.zero_grad()
        self.network(x).square().mean().backward()
        self.optimizer.step()

    def run(self, epochs: int) -> Run:
        self.engine.run(range(3), max_epochs=epochs, epoch_length=3)
        return self


def saved(folder: Path) -> list[int]:
    return sorted(int(path.stem.split("=")[1]) for path in folder.glob("checkpoint_epoch=*.pt"))


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    Run(tmp_path).run(11)
    assert saved(tmp_path) == [10, 11]  # by number: as text 9 comes after 11


@pytest.mark.parametrize(("every", "epochs", "kept"), [(3, 7, [6, 7]), (2, 4, [2, 4]), (10, 4, [4]), (1, 1, [1])])
def test_saved_every_so_often_and_at_the_end(every: int, epochs: int, kept: list[int], tmp_path: Path) -> None:
    Run(tmp_path, every=every).run(epochs)
    assert saved(tmp_path) == kept


def test_a_resumed_run_is_the_whole_run(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole").run(4)
    Run(tmp_path / "parts").run(2)
    resumed = Run(tmp_path / "parts", seed=6).run(4)
    assert resumed.drawn == whole.drawn[6:]
    assert resumed.engine.state.iteration == 12
    assert resumed.sampler.done == 6 * 4
    assert torch.equal(resumed.network.weight, whole.network.weight)
    for one, other in zip(resumed.optimizer.state.values(), whole.optimizer.state.values(), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_unfinished_files_are_not_checkpoints(tmp_path: Path) -> None:
    for name in (".checkpoint_epoch=9.pt.123.partial", "checkpoint_epoch=9.pt.bak", "other.pt"):
        (tmp_path / name).write_bytes(b"half")
    run = Run(tmp_path).run(1)
    assert [path.name for path in run.checkpoint.finished()] == ["checkpoint_epoch=1.pt"]
    assert (tmp_path / "other.pt").exists()


def test_other_settings_are_refused(tmp_path: Path) -> None:
    Run(tmp_path, settings={"seed": 0, "patch_size": 64}).run(1)
    Run(tmp_path, settings={"seed": 0, "patch_size": 64}).run(2)
    with pytest.raises(CheckpointRefusal, match="the run began with seed=0, now it is 1"):
        Run(tmp_path, settings={"seed": 1, "patch_size": 64}).run(3)
    with pytest.raises(CheckpointRefusal, match="began with new=None, now it is 7"):
        Run(tmp_path, settings={"seed": 0, "new": 7}).run(3)
    assert saved(tmp_path) == [1, 2]


def test_other_scans_under_the_same_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "datalist.json").write_text(
        '{"noisy": [{"image": "n.nii", "patient": "A"}], "clean": [{"image": "c.nii", "patient": "B"}]}'
    )
    (tmp_path / "n.nii").write_bytes(b"noisy")
    (tmp_path / "c.nii").write_bytes(b"one")
    run = tmp_path / "run"
    Run(run, scans=Datalist.load(tmp_path)).run(1)
    Run(run, scans=Datalist.load(tmp_path)).run(2)
    (tmp_path / "c.nii").write_bytes(b"two")
    with pytest.raises(
        CheckpointRefusal, match=r"2\.pt: the run began on other scans: clean scan c\.nii: image has"
    ) as no:
        Run(run, scans=Datalist.load(tmp_path)).run(3)
    assert no.value.cure == "bring them back, or start another run in another --output_dir"
    (tmp_path / "c.nii").write_bytes(b"one")
    Run(run, scans=Datalist.load(tmp_path)).run(3)
    with pytest.raises(CheckpointRefusal, match=r"noisy scan n\.nii is gone"):
        Run(run).run(4)


def test_other_sizes_are_refused_by_name(tmp_path: Path) -> None:
    Run(tmp_path).run(1)
    with pytest.raises(CheckpointRefusal, match="network does not fit"):
        Run(tmp_path, width=3).run(2)


def test_a_part_that_was_not_saved_is_refused_by_name(tmp_path: Path) -> None:
    Run(tmp_path).run(1)
    run = Run(tmp_path)
    run.checkpoint.parts["averaging"] = nn.Linear(1, 1)
    with pytest.raises(CheckpointRefusal, match="averaging does not fit"):
        run.run(2)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    Run(tmp_path).run(1)
    path = tmp_path / "checkpoint_epoch=1.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointRefusal, match=r"checkpoint_epoch=1\.pt"):
        Run(tmp_path).run(2)


def test_a_new_run_refuses_to_overwrite(tmp_path: Path) -> None:
    Run(tmp_path, resume=False).run(1)
    with pytest.raises(CheckpointRefusal, match=r"already holds checkpoint_epoch=1\.pt"):
        Run(tmp_path, resume=False).run(1)
