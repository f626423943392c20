"""What this installation can do, for a bug report: versions, extras, decoders, machine and bundle; no patients."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from iscl_monai.errors import Refusal
from iscl_monai.extras import EXTRAS, install_line, missing, requirements
from iscl_monai.released import released_weights
from iscl_monai.version import __version__

State = Literal["ok", "absent", "problem"]
GIB = 2**30
FEWEST_GIB = 2.0
"""Free memory below which a slice of 512x512 may not be denoised."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line.

    Args:
        name: of what was looked at.
        state: ``ok``; ``absent``: something optional is not there; ``problem``: something needed is not, or is broken.
        found: in words.
        cure: what to do about it; empty where nothing need be done.
    """

    name: str
    state: State
    found: str
    cure: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Findings of one kind."""

    title: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was found."""

    sections: tuple[Section, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What keeps this installation from working."""
        return tuple(one for section in self.sections for one in section.findings if one.state == "problem")

    def lines(self) -> Iterator[str]:
        """As text that can be pasted into a bug report."""
        for section in self.sections:
            yield section.title
            width = max(len(one.name) for one in section.findings)
            for one in section.findings:
                mark = {"ok": " ", "absent": "-", "problem": "!"}[one.state]
                yield f"{mark} {one.name:{width}}  {one.found}" + (f"  -> {one.cure}" if one.cure else "")

    def to_json(self) -> dict[str, Any]:
        """Sections by title, for programs."""
        return {section.title: [asdict(one) for one in section.findings] for section in self.sections}


def diagnose(bundle: Path | None) -> Diagnosis:
    """Look at everything that decides whether the commands work here.

    Args:
        bundle: folder of the bundle to look at; None: none was named, and none lies here.
    """
    return Diagnosis(
        sections=(
            Section(title="program", findings=tuple(_program())),
            Section(title="packages", findings=tuple(_packages())),
            Section(title="extras", findings=tuple(_extra(name) for name in EXTRAS)),
            Section(title="decoders of DICOM pixels", findings=tuple(_decoders())),
            Section(title="machine", findings=tuple(_machine())),
            Section(title="bundle", findings=tuple(_bundle(bundle))),
        )
    )


def _program() -> Iterator[Finding]:
    yield Finding(name="iscl-monai", state="ok", found=__version__)
    yield Finding(name="Python", state="ok", found=f"{platform.python_version()} ({platform.python_implementation()})")
    yield Finding(name="system", state="ok", found=platform.platform())
    yield Finding(name="place", state="ok", found=_without_home(Path(__file__).resolve().parents[1]))


def _packages() -> Iterator[Finding]:
    lacking = missing()
    for one in lacking:
        name = one.split()[0]
        yield Finding(name=name, state="problem", found=f"absent or too old: {one}", cure="pip install -U iscl-monai")
    for requirement in requirements():
        if not any(one.split()[0] == requirement.name for one in lacking):
            yield Finding(name=requirement.name, state="ok", found=version(requirement.name))


def _extra(name: str) -> Finding:
    lacking = missing(name)
    if lacking:
        return Finding(name=name, state="absent", found=f"without {', '.join(lacking)}", cure=install_line(name))
    return Finding(name=name, state="ok", found=EXTRAS[name])


def _decoders() -> Iterator[Finding]:
    from pydicom.pixels.decoders.base import get_decoder

    from iscl_monai.dicom.syntaxes import LOSSLESS, LOSSY

    for syntax in (*LOSSLESS, *LOSSY):
        decoder = get_decoder(syntax)
        if decoder.is_available:
            yield Finding(name=syntax.keyword, state="ok", found=", ".join(decoder.available_plugins))
        else:
            yield Finding(
                name=syntax.keyword,
                state="problem",
                found="cannot be decoded",
                cure="pip install pylibjpeg pylibjpeg-openjpeg pyjpegls python-gdcm",
            )


def _machine() -> Iterator[Finding]:
    import psutil
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = f"{torch.get_num_threads()} threads of torch"
    asked = os.environ.get("OMP_NUM_THREADS", "not set")
    yield Finding(
        name="processor",
        state="ok",
        found=f"{platform.machine()}, {cores} cores, {threads}, OMP_NUM_THREADS {asked}",
    )
    memory = psutil.virtual_memory()
    enough = memory.available >= FEWEST_GIB * GIB
    yield Finding(
        name="memory",
        state="ok" if enough else "problem",
        found=f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} GiB available",
        cure="" if enough else f"free {FEWEST_GIB:g} GiB, or denoise in tiles (--tile)",
    )
    yield from _graphics(torch)


def _graphics(torch: Any) -> Iterator[Finding]:
    built = torch.version.cuda or torch.version.hip
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            yield Finding(name=f"GPU {index}", state="ok", found=f"{card.name}, {card.total_memory / GIB:.0f} GiB")
    elif built:
        yield Finding(name="GPU", state="absent", found=f"none found (torch is built for {built})", cure="nvidia-smi")
    else:
        yield Finding(name="GPU", state="absent", found="not used: this torch is built for CPUs")


def _bundle(bundle: Path | None) -> Iterator[Finding]:
    from iscl_monai.inference.denoiser import Denoiser

    if bundle is None:
        cure = "give --bundle the folder that holds configs/metadata.json"
        yield Finding(name="bundle", state="absent", found="none here", cure=cure)
        return
    yield Finding(name="bundle", state="ok", found=_without_home(bundle.resolve()))
    if not ((bundle / "models" / "model.pt").is_file() or released_weights(bundle)):
        yield Finding(
            name="weights", state="absent", found="no models/model.pt", cure="train first (docs/quickstart.md)"
        )
        return
    try:
        denoiser = Denoiser.from_bundle(bundle, device="cpu")
    except Refusal as refusal:
        yield Finding(name="weights", state="problem", found=refusal.came, cure=refusal.cure)
        return
    identity = denoiser.identity
    yield Finding(name="weights", state="ok", found=f"{identity.name} {identity.version}, {identity.weights_digest}")
    for name, value in denoiser.parameters.items():
        yield Finding(name=name.replace("_", " "), state="ok", found=value)


def _without_home(path: Path) -> str:
    """A path without the name of who works here."""
    home = Path.home()
    return str(Path("~") / path.relative_to(home)) if path.is_relative_to(home) else str(path)
