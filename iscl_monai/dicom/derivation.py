"""What was done to images, by what and when, and the codes that tell it."""

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


# CID 7203 "Image Derivation" is extensible and has no code for noise reduction, so this one is ours.
NOISE_REDUCTION = Code("NOISERED", OUR_CODES, "Noise reduction by neural network")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """What was done to a series, by what and when: all that a derived object tells about itself.

    Model, version, digest, parameters and kind make the new UIDs, so the same work gives the same object again,
    and other weights or settings another one. The moment does not.

    Args:
        model: name of the model.
        version: of the model.
        weights_digest: SHA-256 of the weights, hexadecimal.
        parameters: settings that change pixels, in words.
        kind: ImageType value 4, a DICOM code string.
        title: appended to SeriesDescription.
        series_offset: SeriesNumber becomes 100 times the source's plus this.
        operation: what was done, as a code.
        moment: one date and time for the whole job; with a time zone.
        keep_private: private creators whose elements are kept; all others are dropped, as they describe the source.

    Raises:
        ConfigRefusal: a kind that is no code string, or a moment without a time zone.
    """

    model: str
    version: str
    weights_digest: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    kind: str = "DENOISED"
    title: str = "AI DENOISED ISCL"
    series_offset: int = 77
    operation: Code = NOISE_REDUCTION
    moment: datetime = field(default_factory=lambda: datetime.now().astimezone())
    keep_private: Sequence[str] = ()

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

    def uid(self, role: str, source: str) -> str:
        """A UID that is the same whenever the same source is processed in the same way (PS3.5 B.2, ``2.25.``)."""
        settings = [f"{name}={value}" for name, value in sorted(self.parameters.items())]
        made_by = [self.model, self.version, self.weights_digest, __version__, *sorted(self.keep_private)]
        named = [role, source, self.kind, *made_by, *settings]
        return f"2.25.{uuid.uuid5(NAMESPACE, repr(named)).int}"

    def story(self) -> str:
        """The DerivationDescription; ASCII, so that every character set can hold it."""
        settings = "".join(f", {name} {value}" for name, value in self.parameters.items())
        told = (
            f"{DISCLAIMER}. {self.operation.meaning}: {self.model} {self.version}, "
            f"weights sha256 {self.weights_digest}{settings} (iscl_monai {__version__})"
        )
        return told.encode("ascii", "replace").decode("ascii").replace("\\", "/")
