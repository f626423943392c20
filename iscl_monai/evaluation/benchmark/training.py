"""Train one method with the bundle, in a process of its own; never twice."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iscl_monai.data.identity import Identity, first_change
from iscl_monai.errors import ConfigRefusal, Refusal
from iscl_monai.evaluation.benchmark.following import followed
from iscl_monai.evaluation.benchmark.kept import read, write
from iscl_monai.evaluation.benchmark.methods import Method
from iscl_monai.evaluation.benchmark.pace import Progress

DONE = "trained.json"
REFUSED, STOPPED = 2, 1


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training that has ended.

    Args:
        bundle: folder with ``models/model.pt`` and ``configs/metadata.json``, for ``Denoiser.from_bundle``.
        stopped: why it stopped by itself before its end; empty: it did not. Its weights are those before.
        seconds: on the clock, of the runs that were not interrupted.
        cpu_seconds: of all threads.
        settings: what it was trained with.
    """

    bundle: Path
    stopped: str
    seconds: float
    cpu_seconds: float
    settings: Mapping[str, Any]

    @property
    def weights(self) -> Path | None:
        """The weights file, if the training came so far."""
        path = self.bundle / "models" / "model.pt"
        return path if path.is_file() else None

    @property
    def validation_db(self) -> float:
        """The best validation PSNR, that of the weights; NaN where none was measured. Optimistic: it chose them."""
        history = (read(self.bundle / "models" / "validation.json") or {}).get("history") or []
        return max((entry["psnr_db"] for entry in history if "psnr_db" in entry), default=math.nan)


def trained(
    method: Method,
    folder: Path,
    *,
    configs: Sequence[str],
    metadata: Path,
    settings: Mapping[str, Any],
    scans: Identity,
    progress: Progress = lambda steps: None,
) -> Training:
    """Train, continue or find done.

    Args:
        method: one with configs.
        folder: of this method and seed; becomes a bundle.
        configs: all config files in order, those of the method last.
        metadata: the bundle's ``metadata.json``, whose version the weights get.
        settings: overrides of settings, dataset and seed among them.
        scans: see :attr:`iscl_monai.data.Datalist.identity`.
        progress: called with how many steps have been made since the last call.

    Raises:
        Refusal: what the training refused, or if the folder holds one with other settings.
        RuntimeError: if it broke; the log is named.
    """
    identity = _identity(configs, settings) | {"scans": json.loads(json.dumps(scans))}
    record = folder / DONE
    folder.mkdir(parents=True, exist_ok=True)
    started = folder / "started.json"
    before = read(started) if started.is_file() else identity
    if before != identity:
        raise ConfigRefusal(
            f"{folder} holds a training of {method.name} with {_difference(before or {}, identity)}",
            allowed="the settings, configs and scans it was begun with",
            cure="give another --out, or remove that folder",
        )
    write(started, identity)
    held = read(record)
    if held is None:
        (folder / "configs").mkdir(exist_ok=True)
        shutil.copyfile(metadata, folder / "configs" / "metadata.json")
        held = _run(folder, configs, settings, metadata.parents[1], progress) | {"settings": dict(settings)}
        write(record, held)
    return Training(
        bundle=folder,
        stopped=held["stopped"],
        seconds=held["seconds"],
        cpu_seconds=held["cpu_seconds"],
        settings=held["settings"],
    )


def _identity(configs: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a training is known by: the contents of its configs, not where they lie."""
    digests = {Path(config).name: hashlib.sha256(Path(config).read_bytes()).hexdigest()[:16] for config in configs}
    return {"configs": digests, "settings": json.loads(json.dumps(dict(settings)))}


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing that differs between two identities, in words."""
    for part in ("configs", "settings"):
        old, new = before.get(part) or {}, now[part]
        for name in (name for name in (*new, *old) if old.get(name) != new.get(name)):
            return f"another {name}" if part == "configs" else f"{name}={old.get(name)}, not {new.get(name)}"
    return f"other scans: {first_change(before.get('scans') or {}, now['scans'])}"


def _run(
    folder: Path, configs: Sequence[str], settings: Mapping[str, Any], bundle: Path, progress: Progress
) -> dict[str, Any]:
    places = {
        "bundle_root": str(bundle.resolve()),  # the command may be given anywhere
        "output_dir": str(folder),
        "ckpt_dir": str(folder / "models"),
    }
    words = [word for name, value in {**settings, **places}.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(list(configs)), *words]
    begun, before = time.monotonic(), _children_cpu_seconds()
    log = folder / "train.log"
    with open(log, "ab") as output, followed(log, progress):
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    spent = {"seconds": time.monotonic() - begun, "cpu_seconds": _children_cpu_seconds() - before}
    reason = _last_line(log) if code else ""
    if code == REFUSED:
        raise Refusal(f"training refused: {reason}", allowed="what the bundle's training takes", cure=f"see {log}")
    if code and not (code == STOPPED and _named_stop(reason)):
        raise RuntimeError(f"training ended with {code}, see {log}")
    return {"stopped": reason, **spent}


def _named_stop(line: str) -> bool:
    """Whether the guard stopped the training by name, and nothing broke."""
    from iscl_monai import errors

    kind = getattr(errors, line.partition(":")[0], None)
    return isinstance(kind, type) and issubclass(kind, errors.TrainingStopped)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _children_cpu_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system
