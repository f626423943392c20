"""A run that was killed and started again ends as the run that was left alone, bit for bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

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


def kill_in_epoch_two(command: list[str], environment: dict[str, str], first: Path) -> None:
    """Start the command; kill -9 once the first epoch is saved and the bar shows a step of the second."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    seen = b""
    with process:
        while piece := process.stderr.read1(256):
            seen += piece
            if b"epoch [2/3]: [1/" in seen and first.exists():
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL, seen.decode()


def test_a_killed_run_continues_bit_for_bit(
    trained: Any, training_words: Callable[..., list[str]], environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", *training_words(tmp_path)]
    checkpoints = tmp_path / "out" / "checkpoints"
    first = checkpoints / "checkpoint_epoch=1.pt"
    kill_in_epoch_two(command, environment, first)
    assert sorted(checkpoints.glob("checkpoint*.pt")) == [first], "not killed in the middle of the second epoch"
    assert torch.load(first, weights_only=True)["epoch"] == 1
    torch.load(tmp_path / "models" / "model.pt", weights_only=True)

    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "continuing after epoch 1" in again.stdout
    names = ["checkpoint_epoch=2.pt", "checkpoint_epoch=3.pt"]
    assert sorted(path.name for path in checkpoints.glob("*.pt")) == names
    for name in names:
        assert differences(checkpoints / name, trained.output_dir / "checkpoints" / name) == []
    for name in ("model.pt", "model_last.pt"):
        assert differences(tmp_path / "models" / name, trained.ckpt_dir / name) == []


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
