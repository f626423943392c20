"""What is compared with what."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from iscl_monai.errors import ConfigRefusal

Kind = Literal["input", "classical", "unpaired", "noisy only", "supervised"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table.

    Args:
        name: as asked for and as a folder's name.
        title: as printed.
        kind: what it learns from; ``supervised`` ones need pairs, and are no rivals but a measure.
        training: name of the training whose weights it uses; empty: nothing is trained.
        configs: of the bundle, after ``train.json`` and the size's.
        settings: overrides of settings in these configs.
        mode: what is asked of the weights: ``ensemble`` (all that was trained), ``generator`` or ``extractor``.
    """

    name: str
    title: str
    kind: Kind
    training: str = ""
    configs: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    mode: str = "ensemble"


def _trained(name: str, title: str, kind: Kind, *configs: str, **settings: Any) -> Method:
    return Method(name=name, title=title, kind=kind, training=name, configs=configs, settings=settings)


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
    _trained("iscl", "ISCL", "unpaired"),
    Method(name="iscl-f", title="ISCL, F alone", kind="unpaired", training="iscl", mode="generator"),
    Method(name="iscl-h", title="ISCL, x - H alone", kind="unpaired", training="iscl", mode="extractor"),
    _trained("iscl-no-bypass", "ISCL without bypass", "unpaired", "no_bypass.json"),
    _trained("iscl-no-boosting", "ISCL without boosting", "unpaired", "no_boosting.json"),
    _trained("iscl-no-consistency", "ISCL without noise consistency", "unpaired", "no_noise_consistency.json"),
    _trained("iscl-paper", "ISCL, authors' settings", "unpaired", "paper.json"),
    _trained("twin", "Supervised twin (F)", "supervised", "supervised_twin.json"),
    _trained("red-cnn", "RED-CNN", "supervised", "supervised_twin.json", "red_cnn.json"),
)
"""In the order of the table."""


def chosen(names: Sequence[str] | None) -> list[Method]:
    """The methods of these names in the table's order, the noisy input always among them.

    Args:
        names: None: all.

    Raises:
        ConfigRefusal: naming an unknown one and the nearest that exists.
    """
    known = {method.name: method for method in METHODS}
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise ConfigRefusal(
                f"method {name!r}",
                allowed=", ".join(known),
                cure=f"did you mean {near[0]!r}?" if near else "choose among these",
            )
    return [method for method in METHODS if names is None or method.kind == "input" or method.name in names]


def trainings(methods: Sequence[Method]) -> list[Method]:
    """Those methods whose weights the given ones need, each once."""
    known = {method.name: method for method in METHODS}
    return [known[name] for name in dict.fromkeys(method.training for method in methods if method.training)]
