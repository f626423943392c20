"""What headers name, and a training may not have had: kernel, body part, iterative reconstruction.

A name is weaker evidence than a measurement. A kernel is called otherwise by every vendor and console and says nothing
of pixel size, thickness and dose, which make the texture of noise as much as it does; BodyPartExamined of one and the
same trunk is CHEST, LUNG, PANCREAS or BREAST, or is not there. If each unknown name were a warning, nearly every scan
of another hospital would be warned of, and nobody would read warnings. So a name decides only where what it stands for
cannot be measured, and goes along as a reason where that is measured to be unlike; else it is a note.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.quality.familiarity import Difference

Kernel = tuple[str, str]
"""Vendor and name; the vendor is empty where the header does not say it."""


@dataclass(frozen=True, kw_only=True)
class HeaderNames:
    """What the headers of a series name; empty where they name nothing.

    Args:
        kernels: :attr:`iscl_monai.dicom.headers.SliceHeader.vendor` and first value of ConvolutionKernel.
        body_parts: BodyPartExamined.
        reconstructions: iterative ones.
    """

    kernels: frozenset[Kernel] = frozenset()
    body_parts: frozenset[str] = frozenset()
    reconstructions: frozenset[str] = frozenset()

    @classmethod
    def of(cls, headers: Iterable[SliceHeader]) -> HeaderNames:
        """Of the slices of a series."""
        headers = list(headers)
        return cls(
            kernels=frozenset((one.vendor, one.kernel[0]) for one in headers if one.kernel and one.kernel[0]),
            body_parts=frozenset(one.body_part for one in headers) - {""},
            reconstructions=frozenset(one.reconstruction for one in headers) - {""},
        )


NO_NAMES = HeaderNames()


def kernels_not_seen(kernels: Collection[Kernel], trained: Mapping[str, Sequence[str]] | None) -> Difference | None:
    """Kernels that no scan of the training from the same vendor had; None: there is nothing to say.

    Args:
        kernels: of :class:`HeaderNames`.
        trained: names of the training by vendor; those of an unknown vendor count for all. None: not recorded.
    """
    if trained is None:
        return None
    unseen = sorted((vendor, name) for vendor, name in kernels if not _is_among(name, _of_vendor(vendor, trained)))
    if not unseen:
        return None
    shown = ", ".join(_one_line(f"{name} of {vendor}" if vendor else name) for vendor, name in unseen)
    seen = sorted({name for vendor, _ in unseen for name in _of_vendor(vendor, trained)})
    known = f"seen there: {', '.join(map(_one_line, seen))}" if seen else "none of that vendor was"
    return Difference(f"kernel {shown} not seen in training ({known})", "kernel not seen")


def body_parts_not_seen(body_parts: Collection[str], trained: Sequence[str] | None) -> Difference | None:
    """Body parts that no header of the training named; arguments as of :func:`kernels_not_seen`."""
    if trained is None:
        return None
    unseen = sorted(part for part in body_parts if not _is_among(part, trained))
    if not unseen:
        return None
    shown, known = ", ".join(map(_one_line, unseen)), ", ".join(map(_one_line, trained)) or "none"
    return Difference(f"body part {shown}, as the header has it, not seen in training ({known})", "body part not seen")


def _of_vendor(vendor: str, trained: Mapping[str, Sequence[str]]) -> list[str]:
    return [name for other, names in trained.items() if not vendor or other in ("", vendor) for name in names]


def _is_among(name: str, names: Iterable[str]) -> bool:
    return name.casefold() in {other.casefold() for other in names}


def _one_line(text: str) -> str:
    return " ".join(text.split())
