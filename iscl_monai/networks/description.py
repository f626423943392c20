"""What weights are of, in words that travel with them: domain, intensity window, and each network with its sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from iscl_monai.errors import CheckpointRefusal, ConfigRefusal
from iscl_monai.hu import HUWindow

KEY = "description"
"""Name of the tensor in a ``state_dict`` that holds the description."""
OLD_KEY = "sizes"
"""What stood in its place at first: nine integers known by their order alone."""
FORMAT = 1
DOMAINS = ("ct", "micrograph", "mr")
"""Names of :mod:`iscl_monai.domain`."""


@dataclass(frozen=True, kw_only=True)
class GeneratorDescription:
    """The arguments of :class:`iscl_monai.networks.Generator` that its deployed form depends on."""

    network: ClassVar[str] = "Generator"

    width: int
    downsamplings: int
    residual_blocks: int
    skip: str


@dataclass(frozen=True, kw_only=True)
class UNetDescription:
    """The arguments of :class:`iscl_monai.networks.UNetGenerator`."""

    network: ClassVar[str] = "UNetGenerator"

    width: int
    levels: int
    blocks: int
    unshuffle: int


@dataclass(frozen=True, kw_only=True)
class RedCNNDescription:
    """The argument of :class:`iscl_monai.networks.RedCNN`."""

    network: ClassVar[str] = "RedCNN"

    width: int


@dataclass(frozen=True, kw_only=True)
class NoiseExtractorDescription:
    """The arguments of :class:`iscl_monai.networks.NoiseExtractor` that its deployed form depends on."""

    network: ClassVar[str] = "NoiseExtractor"

    width: int
    layers: int


@dataclass(frozen=True, kw_only=True)
class UNetExtractorDescription:
    """The arguments of :class:`iscl_monai.networks.NoiseUNet` as H."""

    network: ClassVar[str] = "NoiseUNet"

    width: int
    levels: int
    blocks: int
    unshuffle: int


@dataclass(frozen=True, kw_only=True)
class ResidualUNetDescription:
    """The arguments of :class:`iscl_monai.networks.ResidualUNetGenerator`."""

    network: ClassVar[str] = "ResidualUNetGenerator"

    width: int
    levels: int
    unshuffle: int
    magnitude: bool = False


@dataclass(frozen=True, kw_only=True)
class ResidualUNetExtractorDescription:
    """The arguments of :class:`iscl_monai.networks.ResidualUNetExtractor`."""

    network: ClassVar[str] = "ResidualUNetExtractor"

    width: int
    levels: int
    unshuffle: int
    magnitude: bool = False


Denoisers = GeneratorDescription | UNetDescription | ResidualUNetDescription | RedCNNDescription
Extractors = NoiseExtractorDescription | UNetExtractorDescription | ResidualUNetExtractorDescription
DENOISERS: Mapping[str, type[Denoisers]] = {
    kind.network: kind for kind in (GeneratorDescription, UNetDescription, ResidualUNetDescription, RedCNNDescription)
}
EXTRACTORS: Mapping[str, type[Extractors]] = {
    kind.network: kind
    for kind in (NoiseExtractorDescription, UNetExtractorDescription, ResidualUNetExtractorDescription)
}
NAMED: Mapping[str, type] = {"int": int, "str": str, "bool": bool}
Kind = TypeVar("Kind")


@dataclass(frozen=True, kw_only=True)
class NetworkDescription:
    """Everything about a :class:`iscl_monai.networks.DenoisingNetwork` that its weights do not say by themselves.

    In a file of weights it is a tensor of bytes, JSON in UTF-8: it survives ``torch.load(weights_only=True)``,
    TorchScript and every tool that knows tensors only, and can be read without this package::

        json.loads(bytes(torch.load("model.pt")["description"].tolist()))

    Args:
        hu_window: what [-1, 1] means.
        denoiser: the network F, or the one of a baseline in its place.
        noise_extractor: the network H.
        keep_mean_px: see :class:`iscl_monai.networks.DenoisingNetwork`.
        statistics: likewise.
        domain: what kind of images; one of ``DOMAINS``. The window is in its unit, of ``ct`` Hounsfield units.

    Raises:
        CheckpointRefusal: a domain that this version does not know.
    """

    hu_window: HUWindow
    denoiser: Denoisers
    noise_extractor: Extractors
    keep_mean_px: int
    statistics: str
    domain: str = "ct"

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            raise CheckpointRefusal(
                f"weights for images of domain {self.domain!r}",
                allowed=", ".join(DOMAINS),
                cure="use the version of iscl_monai that wrote them, or a later one",
            )

    @classmethod
    def of_weights(cls, weights: Any) -> NetworkDescription:
        """Read it from a ``state_dict``.

        Args:
            weights: what a file of weights held.

        Raises:
            CheckpointRefusal: none there, one of another format or domain, or one that is damaged.
        """
        if not isinstance(weights, Mapping) or KEY not in weights:
            old = isinstance(weights, Mapping) and OLD_KEY in weights
            raise CheckpointRefusal(
                f"weights without {KEY!r}" + (f", with {OLD_KEY!r} as before it was introduced" if old else ""),
                allowed="the model.pt of a training with this version",
                cure="train again with this version, or use the version of iscl_monai that wrote them",
            )
        try:
            content = json.loads(bytes(weights[KEY].tolist()))
            written = content.pop("format")
            if written == FORMAT:
                return cls._from_json(content)
        except (KeyError, ValueError, TypeError, AttributeError, ConfigRefusal) as error:
            reason = " ".join(f"{type(error).__name__} {error}".split())[:160]
            raise CheckpointRefusal(
                f"weights with a {KEY!r} that cannot be read ({reason})",
                allowed="the model.pt of a training with this version",
                cure="copy the file again from where it was trained, or train again",
            ) from None
        raise CheckpointRefusal(
            f"weights with a description of format {written!r}",
            allowed=f"format {FORMAT}",
            cure="use the version of iscl_monai that wrote them, or a later one",
        )

    @classmethod
    def _from_json(cls, content: Mapping[str, Any]) -> NetworkDescription:
        lower, upper = (_typed(value, float) for value in content["hu_window"])
        known = {field.name: content[field.name] for field in fields(cls)}
        if known.keys() != content.keys():
            raise ValueError(f"unknown {', '.join(sorted(content.keys() - known.keys()))}")
        return cls(
            hu_window=HUWindow(lower, upper),
            denoiser=_part(content["denoiser"], DENOISERS),
            noise_extractor=_part(content["noise_extractor"], EXTRACTORS),
            keep_mean_px=_typed(content["keep_mean_px"], int),
            statistics=_typed(content["statistics"], str),
            domain=_typed(content["domain"], str),
        )

    def to_tensor(self) -> Tensor:
        """The bytes that travel with the weights, uint8 (length,)."""
        content = {
            "format": FORMAT,
            **asdict(self),
            "hu_window": [float(self.hu_window.lower), float(self.hu_window.upper)],
            "denoiser": {"network": self.denoiser.network, **asdict(self.denoiser)},
            "noise_extractor": {"network": self.noise_extractor.network, **asdict(self.noise_extractor)},
        }
        return torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)

    def overrides(self) -> dict[str, Any]:
        """The settings of the bundle's configs that decide what the tensors are and mean."""
        window = {"hu_lower": f"{self.hu_window.lower:g}", "hu_upper": f"{self.hu_window.upper:g}"}
        extractor = {f"extractor_{name}": value for name, value in asdict(self.noise_extractor).items()}
        if isinstance(self.denoiser, RedCNNDescription):
            return {**window, "network_def#denoiser#width": self.denoiser.width, **extractor}
        return {**window, **asdict(self.denoiser), **extractor}

    def check_domain(self, domain: str) -> None:
        """Refuse weights for other images than those that are at hand.

        Raises:
            CheckpointRefusal: they are for another domain.
        """
        if self.domain != domain:
            raise CheckpointRefusal(
                f"weights for images of domain {self.domain!r}",
                allowed=f"weights for {domain!r}",
                cure=f"give weights trained for {domain!r}, or such images with --modality {self.domain}",
            )

    def check_fits(self, network: NetworkDescription) -> None:
        """Refuse to put these weights into a network that they were not trained in.

        ``keep_mean_px`` and ``statistics`` may differ: they are chosen at inference as well.

        Args:
            network: the description of the network that is to take the weights.

        Raises:
            CheckpointRefusal: naming what differs.
        """
        self.check_domain(network.domain)
        parts = ((self.denoiser, network.denoiser), (self.noise_extractor, network.noise_extractor))
        for trained, other in parts:
            if type(trained) is not type(other):
                raise CheckpointRefusal(
                    f"weights of a {trained.network}, for a {other.network}",
                    allowed="the kind of network that they were trained in",
                    cure="use iscl-monai denoise, evaluate or qa, which take it from the weights",
                )
        before, now = self.overrides(), network.overrides()
        differ = {name: value for name, value in before.items() if now[name] != value}
        if differ:
            raise CheckpointRefusal(
                f"weights trained with {', '.join(f'{name} {value}' for name, value in differ.items())}",
                allowed="a network of the same sizes and HU window",
                cure=f"give {' '.join(f'--{name} {value}' for name, value in differ.items())}",
            )


def _part(content: Mapping[str, Any], kinds: Mapping[str, type[Kind]]) -> Kind:
    """The description of one network, every argument of its type and none too many; older weights lack later ones."""
    kind = kinds[content["network"]]
    types = {field.name: NAMED[str(field.type)] for field in fields(kind)}  # type: ignore[arg-type]
    needed = {field.name for field in fields(kind) if field.default is MISSING}  # type: ignore[arg-type]
    if not needed | {"network"} <= content.keys() <= types.keys() | {"network"}:
        raise ValueError(f"{content['network']} with {', '.join(sorted(content))}")
    return kind(**{name: _typed(content[name], wanted) for name, wanted in types.items() if name in content})


Value = TypeVar("Value", int, float, str)


def _typed(value: Any, wanted: type[Value]) -> Value:
    if type(value) is not wanted:
        raise TypeError(f"{value!r}, not {wanted.__name__}")
    return value
