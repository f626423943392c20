"""Files of tensors: written so that a crash never costs the old one, read so that no code in them can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from iscl_monai.durable import whole_file
from iscl_monai.errors import CheckpointRefusal


def save_durably(content: Any, path: Path) -> None:
    """Write with ``torch.save`` so that after any crash the path holds the old file or the new one, whole."""
    with whole_file(path) as file:
        torch.save(content, file)


def load_tensors(path: Path, *, map_location: Any = "cpu") -> Any:
    """Read a file of tensors and plain values only.

    Raises:
        CheckpointRefusal: if it is absent, damaged or holds anything else.
    """
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged file makes torch raise nearly anything: KeyError, UnicodeDecodeError ...
        said = (str(error) or type(error).__name__).splitlines()[0]
        # torch advises to load what is not tensors all the same, which would run code from the file.
        said = type(error).__name__ if "weights_only" in said else said
        raise CheckpointRefusal(
            f"{path}: {said}",
            allowed="a whole file of tensors",
            cure="use another one",
        ) from None


def with_weights(network: nn.Module, path: Path | str) -> nn.Module:
    """The network with the weights of a file, in evaluation mode.

    Args:
        network: built with the sizes the weights were trained with.
        path: a ``state_dict`` of tensors, such as a bundle's ``models/model.pt``.

    Raises:
        CheckpointRefusal: if the file is not one, or is of a network of other sizes.
    """
    if not Path(path).is_file():
        raise CheckpointRefusal(
            f"{path} does not exist",
            allowed="the model.pt of a training (no weights are released yet)",
            cure="train first, or give --ckpt_dir the folder that holds it",
        )
    weights = load_tensors(Path(path))
    _check_window(network, weights, path)
    _check_sizes(network, weights, path)
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointRefusal(
            f"{path}: {' '.join(str(error).split())[:240]}",
            allowed="weights of a network of the same sizes",
            cure="give the width, downsamplings ... it was trained with, e.g. the same override config",
        ) from None
    return network.eval()


def _check_window(network: nn.Module, weights: Any, path: Path | str) -> None:
    """A network sees another image through another window, and nothing in its answer would tell."""
    mine, theirs = getattr(network, "window_hu", None), weights.get("window_hu") if isinstance(weights, dict) else None
    if mine is not None and theirs is not None and not torch.equal(mine.cpu(), theirs.cpu()):
        raise CheckpointRefusal(
            f"{path} was trained with HU window {theirs.tolist()}, now it is {mine.tolist()}",
            allowed=f"{theirs.tolist()}",
            cure="give --hu_lower {:g} --hu_upper {:g}".format(*theirs.tolist()),
        )


def _check_sizes(network: nn.Module, weights: Any, path: Path | str) -> None:
    """Name the settings that differ, before torch lists every tensor that does."""
    mine = getattr(network, "sizes", None)
    theirs = weights.get("sizes") if isinstance(weights, dict) else None
    if mine is None or theirs is None:
        return
    own, told = network.settings_of(mine), network.settings_of(theirs)  # type: ignore[operator]
    differ = {name: value for name, value in told.items() if own[name] != value}
    if differ:
        raise CheckpointRefusal(
            f"{path} was trained with {', '.join(f'{name} {value}' for name, value in differ.items())}",
            allowed="a network of the same sizes",
            cure=f"give {' '.join(f'--{name} {value}' for name, value in differ.items())}",
        )
