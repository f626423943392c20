"""Two processes train one model; on machines without GPUs they talk over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from iscl_monai.errors import ConfigRefusal

ROOT = Path(__file__).resolve().parents[2]
MULTI_GPU = Path("bundles/iscl/configs/multi_gpu_train.json")


def witness(folder: Path) -> Path:
    """A config that has every rank leave what it ended with."""
    names = ("denoiser", "degrader", "noise_extractor", "noisy_discriminator", "clean_discriminator")
    networks = ", ".join(f"'{name}': @parallel#{name}.module.state_dict()" for name in names)
    seen = "'x': @train#trainer.state.output['x'], 'indices': list(@train#sampler)"
    left = f"{{'networks': {{{networks}}}, {seen}}}"
    file = "os.path.join(@output_dir, 'rank' + os.environ['RANK'] + '.pt')"
    path = folder / "witness.json"
    path.write_text(json.dumps({"training": ["$@train#trainer.run()", f"$torch.save({left}, {file})"]}))
    return path


def test_two_processes_train_one_model_on_different_patches(
    training_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    small = {"epochs": 1, "steps_per_epoch": 3, "warm_up_steps": 1}
    words = training_words(tmp_path, MULTI_GPU, witness(tmp_path), **small)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ranks: list[dict[str, Any]] = [
        torch.load(tmp_path / "out" / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)
    ]
    for name, weights in ranks[0]["networks"].items():
        assert len(weights) > 1
        for key, tensor in weights.items():
            assert torch.equal(tensor, ranks[1]["networks"][name][key]), (name, key)
    assert not torch.equal(ranks[0]["x"], ranks[1]["x"])
    assert sorted(ranks[0]["indices"] + ranks[1]["indices"]) == list(range(2 * 3 * 2))
    # One of each, by the first process; and names without DistributedDataParallel's prefix.
    assert len(list((tmp_path / "out" / "tensorboard").iterdir())) == 1
    saved = torch.load(tmp_path / "out" / "checkpoints" / "checkpoint_epoch=1.pt", weights_only=True)
    for name, weights in ranks[0]["networks"].items():
        assert saved["parts"][name].keys() == weights.keys()


def test_without_torchrun_it_is_refused(workflow: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(RuntimeError) as caught:
        workflow("train", "multi_gpu_train")
    assert isinstance(caught.value.__cause__, ConfigRefusal)
    assert "torchrun --nproc_per_node" in str(caught.value.__cause__)
