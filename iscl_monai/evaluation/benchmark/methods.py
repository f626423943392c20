"""What is compared with what."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from iscl_monai.bundle import METADATA, is_trained
from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.benchmark.sweep import RATES, RATES_AND_WEIGHTS, Candidate
from iscl_monai.evaluation.submission import GROUP, is_function_source, submitted_names

FUNCTION: Literal["a function"] = "a function"
NAME = r"[A-Za-z0-9][\w.+-]*"
"""Of a method; it is a folder's name, too."""
IMAGES: Literal["denoised images"] = "denoised images"
BUNDLE: Literal["a trained bundle"] = "a trained bundle"
Kind = Literal[
    "input", "classical", "unpaired", "noisy only", "supervised", "a function", "denoised images", "a trained bundle"
]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table.

    Args:
        name: as asked for and as a folder's name.
        title: as printed.
        kind: what it learns from; ``supervised`` ones need pairs, and are no rivals but a measure. Of submitted methods
            nobody knows: ``a function``, ``denoised images``, or ``a trained bundle`` (which says whom it has seen).
        training: name of the training whose weights it uses; empty: nothing is trained.
        configs: of the bundle, after ``train.json`` and the size's.
        settings: overrides of settings in these configs.
        mode: what is asked of the weights: ``ensemble`` (all that was trained), ``generator`` or ``extractor``.
        sweep: what it is tried with before it is trained with every seed; the authors' own settings are not swept.
        source: of a submitted method: ``path/to/file.py:function``, a folder of scans or of a bundle, or empty for an
            entry point.
    """

    name: str
    title: str
    kind: Kind
    training: str = ""
    configs: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    mode: str = "ensemble"
    sweep: tuple[Candidate, ...] = ()
    source: str = ""

    @property
    def submitted(self) -> bool:
        """Whether it is a method of somebody else's, of which nobody knows what it has seen."""
        return self.kind in (FUNCTION, IMAGES, BUNDLE)


def _trained(name: str, title: str, kind: Kind, *configs: str, **settings: Any) -> Method:
    sweep = () if "paper.json" in configs else RATES_AND_WEIGHTS if kind == "unpaired" else RATES
    return Method(name=name, title=title, kind=kind, training=name, configs=configs, settings=settings, sweep=sweep)


ZERO_MEAN = {"warm_up_steps": 0, "zero_mean_weight": 1.0}

METHODS = (
    Method(name="input", title="Noisy input", kind="input"),
    Method(name="gaussian", title="Gaussian filter", kind="classical"),
    Method(name="bilateral", title="Bilateral filter", kind="classical"),
    Method(name="sigma", title="Sigma filter", kind="classical"),
    Method(name="nlm", title="Non-local means", kind="classical"),
    Method(name="nlm-local", title="Non-local means, local noise (F's skip)", kind="classical"),
    Method(name="tv", title="Total variation", kind="classical"),
    Method(name="bm3d", title="BM3D", kind="classical"),
    _trained("noise2void", "Noise2Void", "noisy only", "noise2void.json"),
    _trained("cyclegan", "CycleGAN", "unpaired", "cyclegan.json", warm_up_steps=0),
    _trained("cyclegan-zero-mean", "CycleGAN, zero-mean term", "unpaired", "cyclegan.json", **ZERO_MEAN),
    _trained("cyclegan-no-skip", "CycleGAN without F's skip", "unpaired", "cyclegan.json", skip="none"),
    _trained(
        "cyclegan-no-skip-zero-mean",
        "CycleGAN without F's skip, zero-mean term",
        "unpaired",
        "cyclegan.json",
        skip="none",
        zero_mean_weight=1.0,
    ),
    _trained("iscl", "ISCL", "unpaired"),
    Method(name="iscl-f", title="ISCL, F alone", kind="unpaired", training="iscl", mode="generator"),
    Method(name="iscl-h", title="ISCL, x - H alone", kind="unpaired", training="iscl", mode="extractor"),
    _trained("iscl-no-bypass", "ISCL without bypass", "unpaired", "no_bypass.json"),
    _trained("iscl-no-boosting", "ISCL without boosting", "unpaired", "no_boosting.json"),
    _trained("iscl-no-consistency", "ISCL without noise consistency", "unpaired", "no_noise_consistency.json"),
    _trained("iscl-paper", "ISCL, authors' settings", "unpaired", "paper.json"),
    _trained("iscl-unet", "ISCL, U-Nets and harvested noise", "unpaired", "unet.json"),
    _trained("harvest-alone", "Harvested noise alone, U-Nets", "unpaired", "unet.json", "harvest_alone.json"),
    _trained("twin", "Supervised twin (F)", "supervised", "supervised_twin.json"),
    _trained("red-cnn", "RED-CNN", "supervised", "supervised_twin.json", "red_cnn.json"),
)
"""In the order of the table."""


def installed() -> list[Method]:
    """Methods that other packages offer by entry points.

    Raises:
        ConfigRefusal: a name that one of ours has, or that cannot be a folder's.
    """
    names = submitted_names()
    for name in names:
        if not re.fullmatch(NAME, name) or any(name == method.name for method in METHODS):
            raise ConfigRefusal(
                f"entry point {name!r} of {GROUP}",
                allowed=f"names of letters, digits and . _ + - but {', '.join(method.name for method in METHODS)}",
                cure="rename it, or remove the package that offers it",
            )
    return [Method(name=name, title=name, kind=FUNCTION) for name in names]


def submission(text: str) -> Method:
    """The row of ``--add NAME=path/to/file.py:function`` or ``--add NAME=DIR``, of denoised scans or a bundle.

    Raises:
        ConfigRefusal: neither, or a name that another method has or that cannot be a folder's.
    """
    name, _, source = text.partition("=")
    if not re.fullmatch(NAME, name) or not source:
        raise ConfigRefusal(
            f"--add {text}",
            allowed="NAME=path/to/file.py:function or NAME=DIR, the name of letters, digits and . _ + -",
            cure="e.g. --add mine=my_method.py:denoise",
        )
    taken = {method.name for method in METHODS} | set(submitted_names())
    if name in taken:
        raise ConfigRefusal(f"--add {name}=", allowed=f"none of {', '.join(sorted(taken))}", cure="take another name")
    if is_function_source(source):
        return Method(name=name, title=name, kind=FUNCTION, source=source)
    if not Path(source).is_dir():
        raise ConfigRefusal(
            f"--add {text}: {source} is no folder and no function",
            allowed="path/to/file.py:function, or an existing folder of denoised scans or of a trained bundle",
            cure="check the spelling",
        )
    kind: Kind = BUNDLE if (Path(source) / METADATA).is_file() or is_trained(source) else IMAGES
    return Method(name=name, title=name, kind=kind, source=source)


def chosen(names: Sequence[str] | None, added: Sequence[Method] = ()) -> list[Method]:
    """The methods of these names in the table's order, the noisy input always among them, and those that are added.

    Args:
        names: None: all, and all entry points.
        added: of :func:`submission`; they stand last.

    Raises:
        ConfigRefusal: naming an unknown one and the nearest that exists, or one that is added twice.
    """
    known = {method.name: method for method in (*METHODS, *installed())}
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise ConfigRefusal(
                f"method {name!r}",
                allowed=", ".join(known),
                cure=f"did you mean {near[0]!r}?" if near else "choose among these",
            )
    twice = {one.name for one in added if [other.name for other in added].count(one.name) > 1}
    if twice:
        raise ConfigRefusal(f"--add {min(twice)}= twice", allowed="each name once", cure="take another name")
    ours = [one for one in known.values() if names is None or one.kind == "input" or one.name in names]
    return [*ours, *added]


def trainings(methods: Sequence[Method]) -> list[Method]:
    """Those methods whose weights the given ones need, each once."""
    known = {method.name: method for method in METHODS}
    return [known[name] for name in dict.fromkeys(method.training for method in methods if method.training)]
