"""Everything this package raises on purpose.

::

    IsclError
    ├── Refusal                 input, file or argument we will not work with (exit code 2)
    │   ├── DicomRefusal        a DICOM file or series: names file, tag, value found, value needed
    │   ├── ImageRefusal        any other image file (NIfTI, TIFF) that is not what is asked for
    │   ├── DatalistRefusal     a datalist that does not follow the schema
    │   │   └── LeakRefusal     one patient (or z-range) on two sides that must be disjoint
    │   ├── ConfigRefusal       a misspelt, missing or ill-typed configuration value
    │   ├── MemoryRefusal       more memory asked for than this machine can give
    │   ├── OutputRefusal       a place for results that is taken or cannot be written
    │   ├── CheckpointRefusal   a checkpoint or weights file that does not fit
    │   ├── NotAllowedNow       a series, job or delivery of the node is in no state for what is asked
    │   └── StoreUnavailable    the database of the node is locked, full, damaged or of another version
    └── TrainingStopped         training went wrong and was stopped; the last good weights are kept
        ├── NonFiniteLoss       a loss became NaN or infinite
        ├── DiscriminatorStuck  a discriminator no longer tells anything (or everything) apart
        ├── OutputCollapsed     the denoiser paints (nearly) one value
        ├── ContrastInverted    the denoiser swaps bright and dark
        ├── HounsfieldDrift     the denoiser shifts the mean Hounsfield value
        └── IdentityTrap        the denoiser copies its input

A refusal is one line: what came, what is allowed, what to do.
"""

from __future__ import annotations

from typing import Any


class IsclError(Exception):
    """Root of every error raised on purpose by this package."""


class Refusal(IsclError):  # noqa: N818 - what it is called everywhere: a refusal is no fault
    """Input we will not work with, told in one line.

    Args:
        came: what was found, with the place it was found in.
        allowed: what would have been accepted.
        cure: the next thing to do.
    """

    exit_code = 2

    def __init__(self, came: str, *, allowed: str, cure: str) -> None:
        self.came = came
        self.allowed = allowed
        self.cure = cure
        super().__init__(" ".join(f"{came}; allowed: {allowed}; do: {cure}".split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by what it holds: the default asks for the arguments again, and hangs process pools."""
        return _rebuilt, (type(self), self.__dict__, self.args)


def _rebuilt(kind: type[Refusal], state: dict[str, Any], args: tuple[Any, ...]) -> Refusal:
    refusal = kind.__new__(kind, *args)
    refusal.__dict__.update(state)
    return refusal


class DicomRefusal(Refusal):
    """A DICOM file, or a series of them, that cannot be read as CT without guessing.

    Args:
        file: path of the (first) offending file or folder.
        tag: DICOM keyword of the offending element, e.g. ``RescaleType``.
        found: the value found.
        needed: the value that would have been accepted.
        cure: the next thing to do.
    """

    def __init__(self, file: object, *, tag: str, found: object, needed: str, cure: str) -> None:
        self.file = str(file)
        self.tag = tag
        self.found = found
        super().__init__(f"{file}: {tag} is {found}", allowed=needed, cure=cure)


class ImageRefusal(Refusal):
    """An image file other than DICOM that is not what is asked for: CT in Hounsfield units, grey levels, magnitude."""


class DatalistRefusal(Refusal):
    """A datalist that does not follow the schema of :mod:`iscl_monai.data`."""


class LeakRefusal(DatalistRefusal):
    """The same anatomy on two sides of the datalist that must be disjoint."""


class ConfigRefusal(Refusal):
    """A misspelt, missing or ill-typed configuration value."""


class MemoryRefusal(Refusal):
    """More memory asked for than this machine can give."""


class OutputRefusal(Refusal):
    """A place for results that is taken or cannot be written."""


class CheckpointRefusal(Refusal):
    """A checkpoint or weights file that does not fit the networks or the run."""


class NotAllowedNow(Refusal):
    """A series, job or delivery of the node is in no state for what is asked."""


class StoreUnavailable(Refusal):
    """The database of the node is locked, full, damaged or of another version."""


class TrainingStopped(IsclError):  # noqa: N818 - names what happened
    """Training went wrong and was stopped; the last good weights are kept."""


class NonFiniteLoss(TrainingStopped):
    """A loss became NaN or infinite."""


class DiscriminatorStuck(TrainingStopped):
    """A discriminator no longer tells anything (or everything) apart."""


class OutputCollapsed(TrainingStopped):
    """The denoiser paints (nearly) one value whatever it sees."""


class ContrastInverted(TrainingStopped):
    """The denoiser swaps bright and dark."""


class HounsfieldDrift(TrainingStopped):
    """The denoiser shifts the mean Hounsfield value."""


class IdentityTrap(TrainingStopped):
    """The denoiser copies its input, noise and all."""
