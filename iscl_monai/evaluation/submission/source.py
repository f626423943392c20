"""Where a submitted function comes from: an installed package's entry point, or a file."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from iscl_monai.baselines import CLASSICAL, classical
from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.submission.function import SubmittedFunction, SubmittedVolumeFunction
from iscl_monai.inference.slice_denoiser import SliceDenoiser

GROUP = "iscl_monai.denoisers"
"""Entry points of this group are rows of ``benchmark``, and ``--method NAME`` of ``evaluate`` and ``qa``."""
VOLUME = "volume"
"""What ``function.takes`` says of a function that wants (slice, row, column)."""


def is_function_source(source: str) -> bool:
    """Whether this names a function in a file: ``path/to/file.py:function``."""
    path, colon, _ = source.rpartition(":")
    return bool(colon) and path.endswith(".py")


def submitted_names() -> list[str]:
    """Names of all installed entry points of the group, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def named_denoiser(method: str) -> SliceDenoiser:
    """The denoiser that is nobody's bundle: a classical filter, an entry point, or a function in a file.

    Args:
        method: ``tv``, the name of an entry point, or ``path/to/file.py:function``.

    Raises:
        ConfigRefusal: an unknown name, or a function that cannot be loaded.
        ImageRefusal: if a function does not return Hounsfield units of the same shape.
    """
    if is_function_source(method):
        return load_submitted(method.rpartition(":")[2], method)
    if method in CLASSICAL:
        return classical(method)
    if method in submitted_names():
        return load_submitted(method)
    known = [*CLASSICAL, *submitted_names()]
    near = difflib.get_close_matches(method, known, n=1, cutoff=0.4)
    raise ConfigRefusal(
        f"--method {method}",
        allowed=f"{', '.join(known)}, or path/to/file.py:function",
        cure=f"did you mean {near[0]!r}?" if near else "choose one of these",
    )


def load_submitted(name: str, source: str = "") -> SubmittedFunction:
    """A submitted function, loaded and tried.

    Args:
        name: as printed; of the entry point if there is no source.
        source: ``path/to/file.py:function``.

    Raises:
        ConfigRefusal: if there is no such file, function or entry point, or it fails.
        ImageRefusal: if it does not return Hounsfield units of the same shape.
    """
    if source:
        return _from_file(name, source)
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if len(found) != 1:
        origins = ", ".join(entry.value for entry in found)
        raise ConfigRefusal(
            f"{len(found)} entry points {name!r} of {GROUP}{': ' if found else ''}{origins}",
            allowed="one package that offers this name",
            cure="install the package that offers it, or take all others out",
        )
    return _from_entry_point(found[0])


def _from_file(name: str, source: str) -> SubmittedFunction:
    text, _, attribute = source.rpartition(":")
    path = Path(text)
    if not path.is_file():
        raise ConfigRefusal(f"{path}: no such file", allowed="an existing Python file", cure="check the spelling")
    module = _executed(path)
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    function = getattr(module, attribute, None)
    if not callable(function):
        near = difflib.get_close_matches(attribute, functions, n=1, cutoff=0.4)
        raise ConfigRefusal(
            f"{path} has no function {attribute!r}",
            allowed=", ".join(functions) or "a file with a function",
            cure=f"did you mean {near[0]!r}?" if near else "give path/to/file.py:function",
        )
    return _wrapped(function, name=name, version="", origin=f"{path.name}:{attribute}", code=[path])


def _executed(path: Path) -> ModuleType:
    """The file as a module of its own; what lies beside it can be imported, after everything that is installed."""
    folder = os.fspath(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"submitted_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigRefusal(
            f"{path} cannot be imported: {type(error).__name__}: {error}",
            allowed="a Python file that runs",
            cure="try python FILE; install what it needs into this environment",
        ) from error
    return module


def _from_entry_point(entry: EntryPoint) -> SubmittedFunction:
    try:
        function = entry.load()
    except Exception as error:
        raise ConfigRefusal(
            f"entry point {entry.name} = {entry.value} of {GROUP} cannot be loaded: {type(error).__name__}: {error}",
            allowed="an importable function",
            cure="mend or remove the package that offers it",
        ) from error
    if not callable(function):
        raise ConfigRefusal(
            f"entry point {entry.name} = {entry.value} of {GROUP} is a {type(function).__name__}",
            allowed="a function of HU",
            cure="let the entry point name the function itself",
        )
    file = inspect.getsourcefile(inspect.unwrap(function) if inspect.isroutine(function) else type(function))
    version = entry.dist.version if entry.dist is not None else ""
    code = [Path(file)] if file else []
    return _wrapped(function, name=entry.name, version=version, origin=f"entry point {entry.value}", code=code)


def _wrapped(function: Any, *, name: str, version: str, origin: str, code: Iterable[Path]) -> SubmittedFunction:
    """By what the function says of itself: ``takes = "volume"``, and ``files``, such as weights, that make it."""
    takes = getattr(function, "takes", "slice")
    if takes not in ("slice", VOLUME):
        raise ConfigRefusal(
            f"{origin}: takes = {takes!r}", allowed="'slice' (also without it) or 'volume'", cure="set one of these"
        )
    kind = SubmittedVolumeFunction if takes == VOLUME else SubmittedFunction
    files = [*code, *map(Path, getattr(function, "files", ()))]
    return kind(function, name=name, version=version, digest=_digest(origin, files), origin=origin)


def _digest(origin: str, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        if not path.is_file():
            raise ConfigRefusal(
                f"{origin}: files names {path}, which does not exist",
                allowed="existing files, such as weights",
                cure="give their places as absolute paths, e.g. Path(__file__).parent / 'weights.pt'",
            )
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
