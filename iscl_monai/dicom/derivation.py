"""What was done to images, by what and when, and the codes that say so."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydicom.dataset import Dataset

from iscl_monai.errors import ConfigRefusal
from iscl_monai.version import __version__

DISCLAIMER = "AI-processed, derived, not for primary diagnosis"
DENOISED_KIND, DENOISED_TITLE = "DENOISED", "AI DENOISED ISCL"
OUR_CODES = "99ISCL"
NAMESPACE = uuid.UUID("5d0c1a3e-7f0b-4b53-9c1e-2a8f6f1c7d10")
LONGEST_LO = 64


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3 section 8)."""

    value: str
    scheme: str
    meaning: str

    def item(self) -> Dataset:
        """An item of a code sequence."""
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = self.value, self.scheme, self.meaning
        return item


# CID 7203 "Image Derivation" is extensible and has no code for noise, neither less nor more of it: these are ours.
NOISE_REDUCTION = Code("NOISERED", OUR_CODES, "Noise reduction by neural network")
NOISE_INSERTION = Code("NOISEINS", OUR_CODES, "Noise insertion to simulate low dose")
MEAN = Code("113049", "DCM", "Pixel by pixel mean")  # CID 7203
SUBTRACTION = Code("113062", "DCM", "Pixel by pixel subtraction")  # CID 7203
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005


@dataclass(frozen=True, kw_only=True)
class Equipment:
    """What did it: an item of the contributing equipment (PS3.3 C.12.1).

    Args:
        model: its name, of which ManufacturerModelName is made.
        versions: SoftwareVersions, beside that of iscl_monai.
        identity: what makes another device of it: DeviceUID changes with it, by which quality assurance groups images.
    """

    model: str
    versions: Sequence[str]
    identity: Sequence[str]

    def device_uid(self) -> str:
        """DeviceUID: another one for every identity and version of iscl_monai."""
        return _uid(["device", __version__, *self.identity])


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """What was done to a series, by what and when: all that a derived object says about itself.

    Kind, identity, parameters, kept private creators and the version of iscl_monai make the new UIDs, so the same work
    gives the same object again, and other weights or settings another one. The moment does not.

    Args:
        kind: ImageType value 4, a DICOM code string.
        title: appended to SeriesDescription.
        series_offset: SeriesNumber becomes 100 times the source's plus this.
        operations: what was done, step by step, as codes.
        description: the same in words, for DerivationDescription.
        disclaimer: what a reader of the image must know first.
        equipment: what did it.
        identity: name, version and whatever else tells what did it from anything else.
        parameters: settings and inputs that change pixels.
        moment: one date and time for the whole job; with a time zone.
        keep_private: private creators whose elements are kept; all others are dropped, as they describe the source.
        remark: what else a reader should know of the source; ASCII. It makes no other object.

    Raises:
        ConfigRefusal: a kind that is no code string, a title that is too long, or a moment without a time zone.
    """

    kind: str
    title: str
    series_offset: int
    operations: tuple[Code, ...]
    description: str
    disclaimer: str
    equipment: Equipment
    identity: tuple[str, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    moment: datetime = field(default_factory=lambda: datetime.now().astimezone())
    keep_private: Sequence[str] = ()
    remark: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z0-9 _]{1,16}", self.kind) or len(self.title) > LONGEST_LO // 2:
            raise ConfigRefusal(
                f"kind={self.kind!r}, title={self.title!r}",
                allowed="a kind of up to 16 of A-Z, 0-9, _ and blank; a title of up to 32 characters",
                cure="shorten them",
            )
        if self.moment.tzinfo is None:
            raise ConfigRefusal(
                f"moment={self.moment} without a time zone",
                allowed="an aware datetime",
                cure="give datetime.now().astimezone()",
            )

    @classmethod
    def by_network(
        cls,
        *,
        model: str,
        version: str,
        weights_digest: str,
        parameters: Mapping[str, str] | None = None,
        moment: datetime | None = None,
        keep_private: Sequence[str] = (),
    ) -> Derivation:
        """Noise reduction by a trained network.

        Args:
            model: name of the model.
            version: of the model.
            weights_digest: SHA-256 of the weights, hexadecimal.
            parameters: settings that change pixels, in words.
            moment: see :class:`Derivation`; None: now.
            keep_private: see :class:`Derivation`.
        """
        parameters = dict(parameters or {})
        settings = "".join(f", {name} {value}" for name, value in parameters.items())
        return cls(
            kind=DENOISED_KIND,
            title=DENOISED_TITLE,
            series_offset=77,
            operations=(NOISE_REDUCTION,),
            description=f"{NOISE_REDUCTION.meaning}: {model} {version}, weights sha256 {weights_digest}{settings}",
            disclaimer=DISCLAIMER,
            equipment=Equipment(
                model=model,
                versions=(f"{model} {version}", f"weights sha256 {weights_digest[:40]}"),
                identity=(weights_digest,),
            ),
            identity=(model, version, weights_digest),
            parameters=parameters,
            moment=moment or datetime.now().astimezone(),
            keep_private=keep_private,
        )

    def uid(self, role: str, source: str) -> str:
        """A UID that is the same whenever the same source is processed in the same way (PS3.5 B.2, ``2.25.``)."""
        settings = [f"{name}={value}" for name, value in sorted(self.parameters.items())]
        return _uid([role, source, self.kind, *self.identity, __version__, *sorted(self.keep_private), *settings])

    def full_description(self) -> str:
        """The DerivationDescription; ASCII, so that every character set can hold it."""
        text = f"{self.disclaimer}. {self.description} (iscl_monai {__version__})"
        text += f". {self.remark}" if self.remark else ""
        return text.encode("ascii", "replace").decode("ascii").replace("\\", "/")


def study_uid(series_identity: str) -> str:
    """The study of a series whose StudyInstanceUID was blanked: one for all that is derived from it."""
    return _uid(["study", series_identity])


def _uid(names: list[str]) -> str:
    return f"2.25.{uuid.uuid5(NAMESPACE, repr(names)).int}"
