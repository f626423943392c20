"""A datalist looked through before a training: every scan read, the pools compared, and what would be refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.data.datalist import Datalist
from iscl_monai.data.datalist_file import SECTIONS
from iscl_monai.data.identity import TRAINED_ON, by_place, first_copy
from iscl_monai.data.scan import RANGE, Entry, PoolScan
from iscl_monai.errors import Refusal
from iscl_monai.parallel import in_order
from iscl_monai.quality.familiarity import looked_at
from iscl_monai.quality.fidelity import body_mask
from iscl_monai.quality.noise import noise_sigma_hu

MOST_SLICES = 9
"""Of a scan, for its noise and its body."""
FEWEST_SCANS = 4
"""Of a pool; with fewer its anatomy is learned beside its noise."""
NOISE_RATIO = 1.2
"""Of the noisy pool over the clean one; below there is little to learn."""
LEAST_BODY = 0.02
"""Share of a scan's pixels; a scan with less shows no patient."""
MOST_VALUES = 30
"""Of a slice that shows no patient. Such slices are the same in many scans: air cut off at -1000 HU, in a circle."""
SAMPLED_PX = 64
"""Along each side of a slice, at least, for its number of values."""


@dataclass(frozen=True, kw_only=True)
class ScanFound:
    """One scan of a datalist.

    Args:
        section: of the datalist: noisy, clean, validation, test.
        name: place in it, such as ``noisy[3]``, and of pairs which of the two.
        path: as in the datalist.
        patient: likewise.
        refused: why it cannot be read; empty: it can.
        slices: of it.
        rows: of a slice.
        columns: of a slice.
        spacing_mm: between rows; NaN when not known.
        kernel: empty when not said.
        reconstruction: iterative one that the headers name; empty: none.
        noise_hu: local standard deviation of the quietest soft tissue; NaN where there is none.
        body: share of the pixels within the skin.
        seconds: that reading it took.
    """

    section: str
    name: str
    path: Path
    patient: str
    refused: str = ""
    slices: int = 0
    rows: int = 0
    columns: int = 0
    spacing_mm: float = float("nan")
    kernel: str = ""
    reconstruction: str = ""
    noise_hu: float = float("nan")
    body: float = float("nan")
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """What was found.

    Args:
        scans: every scan once for each time that it is named.
        problems: what a training refuses.
        doubts: what it takes, and what may be learned instead of noise.
    """

    scans: tuple[ScanFound, ...]
    problems: tuple[str, ...]
    doubts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs; NaN becomes None."""
        rows = [{name: _plain(value) for name, value in asdict(one).items()} for one in self.scans]
        return {"scans": rows, "problems": list(self.problems), "doubts": list(self.doubts)}


def check_data(
    datalist: Datalist,
    *,
    patch_size: int = 64,
    trust_hu: bool = False,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> DataCheck:
    """Read every scan of a datalist as training reads it, and compare the pools.

    Args:
        datalist: loaded, so free of leaks.
        patch_size: of the training.
        trust_hu: of the training; see :func:`iscl_monai.dicom.images.read_image`.
        workers: scans read at the same time; each is held in memory as a whole.
        progress: called with 1 after each scan.
    """
    found: list[ScanFound] = []
    content: list[frozenset[bytes]] = []
    for one, slices in in_order(_named(datalist), lambda named: _looked_at(*named, trust_hu=trust_hu), workers=workers):
        found.append(one)
        content.append(slices)
        if progress is not None:
            progress(1)
    copies = list(_copies(found, content))
    leaks = [text for text, leaks in copies if leaks] or _parts_of_one(datalist)
    return DataCheck(
        scans=tuple(found),
        problems=(*_problems(found, patch_size), *leaks),
        doubts=(*_doubts(found), *(text for text, leaks in copies if not leaks)),
    )


def scans_to_read(datalist: Datalist) -> int:
    """How often :func:`check_data` calls its ``progress``."""
    return sum(1 for _ in _named(datalist))


Named = tuple[str, str, Path, Entry, str | None]


def _named(datalist: Datalist) -> Iterator[Named]:
    """Section, name, path, entry and SeriesInstanceUID of each scan."""
    for section in SECTIONS:
        for index, entry in enumerate(getattr(datalist, section)):
            name = f"{section}[{index}]"
            if isinstance(entry, PoolScan):
                yield section, name, entry.image, entry, entry.series_uid
                if entry.reference is not None:
                    yield "reference", f"{name}.reference", entry.reference, entry, entry.reference_series_uid
            else:
                yield section, f"{name}.noisy", entry.noisy, entry, entry.noisy_series_uid
                yield section, f"{name}.clean", entry.clean, entry, entry.clean_series_uid


def _looked_at(
    section: str, name: str, path: Path, entry: Entry, uid: str | None, *, trust_hu: bool
) -> tuple[ScanFound, frozenset[bytes]]:
    """What a scan is, and digests of its slices, but for those that show nothing."""
    known: dict[str, Any] = {"section": section, "name": name, "path": path, "patient": entry.patient}
    begun = time.monotonic()
    try:
        hu, header = _read(path, uid, entry.z_range_mm, trust_hu=trust_hu)
    except Refusal as refusal:
        return ScanFound(**known, refused=str(refusal)), frozenset()
    seconds = time.monotonic() - begun
    some = np.ascontiguousarray(hu[looked_at(len(hu), MOST_SLICES)])
    made = ScanFound(
        **known,
        **header,
        slices=len(hu),
        rows=hu.shape[1],
        columns=hu.shape[2],
        noise_hu=float(noise_sigma_hu(some)),
        body=float(body_mask(some).mean()),
        seconds=seconds,
    )
    showing = (image for image in hu if _shows_something(image))
    return made, frozenset(blake2b(image.tobytes(), digest_size=16).digest() for image in showing)


def _read(
    path: Path, uid: str | None, z_range_mm: RANGE | None, *, trust_hu: bool
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """HU (slice, row, column), and what the headers say."""
    from iscl_monai.dicom.images import is_image_file, read_image

    if is_image_file(path):
        volume = read_image(path, z_range_mm, trust_hu=trust_hu)
        spacing = float(np.linalg.norm(volume.affine_ras[:3, 0]))
        return volume.hu.transpose(2, 0, 1), {"spacing_mm": spacing}
    from iscl_monai.dicom.series import read_series

    series = read_series(path, series_uid=uid, geometry="slices", z_range_mm=z_range_mm)
    return series.hu, {
        "spacing_mm": series.pixel_spacing_mm[0],
        "kernel": "/".join(series.kernel),
        "reconstruction": " / ".join(sorted({header.reconstruction for header in series.headers} - {""})),
    }


def _problems(found: Sequence[ScanFound], patch_size: int) -> Iterator[str]:
    for one in found:
        if one.refused:
            yield f"{one.name}: {one.refused}"
        elif min(one.rows, one.columns) < patch_size and one.section in ("noisy", "clean"):
            yield f"{one.name}: slices of {one.rows}x{one.columns}, smaller than the patches of {patch_size}"
        elif one.body < LEAST_BODY:
            yield f"{one.name}: {100 * one.body:.1f} % of it is body: no patient to learn from"


def _shows_something(image: NDArray[np.float32]) -> bool:
    """Whether a slice has more values than air, what lies around the circle of reconstruction, and a drawing have."""
    step = max(1, min(image.shape) // SAMPLED_PX)
    return np.unique(image[::step, ::step]).size > MOST_VALUES


def _copies(found: Sequence[ScanFound], content: Sequence[frozenset[bytes]]) -> Iterator[tuple[str, bool]]:
    """Scans of two patients with slices in common, and whether that is a leak: one person under two names."""
    holders: dict[bytes, list[int]] = {}
    for index, slices in enumerate(content):
        for digest in slices:
            holders.setdefault(digest, []).append(index)
    shared = Counter(chain.from_iterable(combinations(who, 2) for who in holders.values() if len(who) > 1))
    for (first, second), common in sorted(shared.items()):
        one, other = found[first], found[second]
        if one.patient != other.patient:
            yield (
                f"{one.name} ({one.patient}) and {other.name} ({other.patient}) have "
                f"{common} {'slice' if common == 1 else 'slices'} in common: one patient under two names",
                _side(one) != _side(other),
            )


def _parts_of_one(datalist: Datalist) -> list[str]:
    """Parts of one scan, without a slice in common, that stand under the names of two patients."""
    trained_on = {section: getattr(datalist, section) for section in TRAINED_ON}
    copied = first_copy(by_place(trained_on, folder=datalist.folder))
    return [f"{copied}: one patient under two names"] if copied else []


def _side(one: ScanFound) -> str:
    """The section of the datalist that a scan stands in."""
    return one.name.partition("[")[0]


def _doubts(found: Sequence[ScanFound]) -> Iterator[str]:
    pools = {name: [one for one in found if one.section == name and not one.refused] for name in ("noisy", "clean")}
    for name, pool in pools.items():
        if len(pool) < FEWEST_SCANS:
            yield f"{name}: {len(pool)} scans; with fewer than {FEWEST_SCANS} their anatomy may be learned, too"
    noisy_hu, clean_hu = (median_noise_hu(pools[name]) for name in ("noisy", "clean"))
    if noisy_hu < NOISE_RATIO * clean_hu:
        yield f"noise of the noisy pool {noisy_hu:.1f} HU, of the clean one {clean_hu:.1f} HU: little to learn"
    yield from _in_one_pool_only("kernel", pools, lambda one: one.kernel)
    yield from _in_one_pool_only("reconstruction", pools, lambda one: one.reconstruction or "filtered backprojection")
    tested = {(one.kernel, one.reconstruction) for one in found if one.section in ("validation", "test")}
    trained = {(one.kernel, one.reconstruction) for one in chain(*pools.values())}
    for kernel, reconstruction in sorted(tested - trained):
        words = " ".join(word for word in (kernel, reconstruction) if word)
        if words:
            yield f"validation or test has {words}, which no pool has"


def median_noise_hu(scans: Iterable[ScanFound]) -> float:
    """Of those that show soft tissue; NaN when none does."""
    known = [one.noise_hu for one in scans if one.noise_hu == one.noise_hu]
    return float(np.median(known)) if known else float("nan")


def _in_one_pool_only(what: str, pools: dict[str, list[ScanFound]], value: Callable[[ScanFound], str]) -> Iterator[str]:
    """What the network may tell the pools by, instead of noise."""
    values = {name: {value(one) for one in pool} - {""} for name, pool in pools.items()}
    for name, other in (("noisy", "clean"), ("clean", "noisy")):
        alone = values[name] - values[other]
        if alone and values[other]:
            yield f"{what} {', '.join(sorted(alone))} in the {name} pool alone"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and value != value else value
