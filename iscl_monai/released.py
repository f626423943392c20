"""Which weights a bundle works with: those that were trained in it, or those that came with it, proven whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from iscl_monai.bundle import METADATA
from iscl_monai.errors import CheckpointRefusal, ConfigRefusal

KEY = "released_weights"
"""In the bundle's metadata: for each size its file and the file's SHA-256."""
TRAINED, ENSEMBLE, STUDENT = "trained", "ensemble", "student"
SIZES = (TRAINED, ENSEMBLE, STUDENT)
MODELS = Path("models")


@dataclass(frozen=True, kw_only=True)
class BundleWeights:
    """A file of weights.

    Args:
        size: ``trained`` in this bundle, or the released ``ensemble`` or ``student``.
        path: tensors only.
    """

    size: str
    path: Path


def weights_in(bundle: Path | str, size: str | None = None) -> BundleWeights:
    """The weights that are meant.

    Args:
        bundle: its folder.
        size: one of ``SIZES``; None: what was trained in this bundle, or else the released ensemble.

    Raises:
        ConfigRefusal: an unknown size.
        CheckpointRefusal: there are none, or released ones are not those that were released.
    """
    folder = Path(bundle)
    if size not in (None, *SIZES):
        raise ConfigRefusal(f"weights={size!r}", allowed=", ".join(SIZES), cure="choose one, or leave it out")
    trained = folder / MODELS / "model.pt"
    if size == TRAINED or (size is None and trained.is_file()):
        if not trained.is_file():
            raise _absent(trained)
        return BundleWeights(size=TRAINED, path=trained)
    return _released(folder, size or ENSEMBLE, trained)


def weights_file(models: Path | str) -> Path:
    """The file that a folder of weights is for: its ``model.pt``, or else what was released there.

    Args:
        models: the configs' ``ckpt_dir``: the folder ``models`` of a bundle, or any other that has a ``model.pt``.

    Raises:
        CheckpointRefusal: see :func:`weights_in`.
    """
    own = Path(models) / "model.pt"
    return own if own.is_file() or not released_weights(Path(models).parent) else weights_in(Path(models).parent).path


def _released(folder: Path, size: str, trained: Path) -> BundleWeights:
    entry = released_weights(folder).get(size)
    if entry is None:
        raise _absent(trained)
    path = folder / entry["file"]
    if not path.is_file():
        raise _absent(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != entry["sha256"]:
        raise CheckpointRefusal(
            f"{path}: SHA-256 {digest[:12]}...",
            allowed=f"{entry['sha256'][:12]}..., as {folder / METADATA} has it",
            cure="install again; weights of your own belong into models/model.pt",
        )
    return BundleWeights(size=size, path=path)


def released_weights(bundle: Path) -> dict[str, dict[str, str]]:
    """What the bundle's metadata says of released weights, by size; empty if there are none.

    Raises:
        CheckpointRefusal: metadata that cannot be read.
    """
    path = bundle / METADATA
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, dict[str, str]] = content.get(KEY) or {}
    except (ValueError, AttributeError) as error:
        raise CheckpointRefusal(
            f"{path}: {error}", allowed="the bundle's metadata, JSON", cure="copy the bundle again"
        ) from None
    return found


def record_in(bundle: Path | str, size: str | None = None) -> Path:
    """Where it is said what the weights that :func:`weights_in` finds were trained on; the file may be missing."""
    folder = Path(bundle) / MODELS
    released = folder / "released.json"
    if size in (ENSEMBLE, STUDENT):
        return released
    return folder / "training.json" if (folder / "model.pt").is_file() or not released.is_file() else released


def record_beside(weights: Path | str) -> Path:
    """As :func:`record_in`, by the file of the weights: a bundle's ``models/model.pt``, or released ones."""
    return Path(weights).with_name("training.json" if Path(weights).name == "model.pt" else "released.json")


def _absent(path: Path) -> CheckpointRefusal:
    return CheckpointRefusal(
        f"{path} does not exist",
        allowed="a trained bundle, or one with released weights",
        cure="train first (docs/quickstart.md), or give --bundle the folder that holds models/model.pt",
    )
