"""Which scans feed which side: the datalist, its schema and its leak check."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from iscl_monai.data.identity import TRAINED_ON, digest_of, identity_of
from iscl_monai.data.scan import RANGE, Entry, PoolScan, ScanPair
from iscl_monai.data.splits import check_roles, protocol_names
from iscl_monai.errors import DatalistRefusal, LeakRefusal
from iscl_monai.quality.protocol import TRUTH_PROTOCOLS

MINIMUM_GAP_MM = 15.0
SECTIONS: dict[str, type[PoolScan] | type[ScanPair]] = {
    "noisy": PoolScan,
    "clean": PoolScan,
    "validation": ScanPair,
    "test": ScanPair,
}


@dataclass(frozen=True, kw_only=True)
class Datalist:
    """The scans of a training: two unpaired pools, and pairs to validate and test on (possibly none).

    In the file, ``{"noisy": [...], "clean": [...], "validation": [...], "test": [...]}``, paths relative to
    it; and maybe ``"split_protocol": "ldct-bench"``, the published split (:mod:`iscl_monai.data.splits`) it follows.
    ``folder`` is where the file lies.
    """

    noisy: tuple[PoolScan, ...]
    clean: tuple[PoolScan, ...]
    validation: tuple[ScanPair, ...] = ()
    test: tuple[ScanPair, ...] = ()
    split_protocol: str = ""
    folder: Path = Path()

    @classmethod
    def load(cls, path: Path | str) -> Datalist:
        """Read and check a datalist, leaks included.

        Args:
            path: the JSON file, or the folder with a ``datalist.json`` in it.

        Raises:
            DatalistRefusal: naming entry, key, value and what is allowed.
            LeakRefusal: if anatomy stands on two sides, or a patient of the named split in another role.
        """
        path = Path(path)
        path = path / "datalist.json" if path.is_dir() else path
        content = _read(path)
        sections = {name: _entries(path, name, rows) for name, rows in content.items() if name in SECTIONS}
        for needed in ("noisy", "clean"):
            if not sections.get(needed):
                raise DatalistRefusal(
                    f"{path}: no scan in {needed!r}",
                    allowed="at least one scan in each of 'noisy' and 'clean'",
                    cure="add scans of other patients than those of the other pool",
                )
        named = _split_protocol(path, content)
        scans: dict[str, Any] = {name: tuple(rows) for name, rows in sections.items()}
        datalist = cls(**scans, split_protocol=named, folder=_absolute(path.parent))
        check_leaks(datalist)
        if named:
            check_roles(named, {name: [entry.patient for entry in rows] for name, rows in sections.items()})
        return datalist

    @cached_property
    def identity(self) -> dict[str, list[dict[str, Any]]]:
        """What a run on these scans depends on, content of the files included, as it was when first asked for.

        See :func:`iscl_monai.data.identity.identity_of`.
        """
        return identity_of({section: getattr(self, section) for section in TRAINED_ON}, folder=self.folder)

    @property
    def digest(self) -> str:
        """Tells these scans from all others, in 16 hexadecimal digits."""
        return digest_of(self.identity)


def _absolute(path: Path) -> Path:
    """Without following links: whatever they lead to, a scan is known by its place beside the datalist."""
    return Path(os.path.abspath(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatalistRefusal(
            f"{path} does not exist",
            allowed="a datalist.json (docs/datalist.md)",
            cure="give --dataset_dir a folder with a datalist.json, or leave it out to train on the phantom",
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatalistRefusal(f"{path}: {error}", allowed="JSON", cure="mend the file at that place") from None
    if not isinstance(content, dict):
        raise DatalistRefusal(f"{path} holds a {type(content).__name__}", allowed="an object", cure="see docs")
    known = [*SECTIONS, "description", "split_protocol"]
    for key in content:
        if key not in known:
            raise DatalistRefusal(f"{path}: section {key!r}", allowed=", ".join(known), cure=_nearest(key, known))
    return content


def _split_protocol(path: Path, content: Mapping[str, Any]) -> str:
    named = content.get("split_protocol", "")
    if named != "" and named not in protocol_names():
        raise DatalistRefusal(
            f"{path}: split_protocol {named!r}",
            allowed=", ".join(protocol_names()),
            cure=_nearest(str(named), protocol_names()),
        )
    return str(named)


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "leave it out"


def _entries(path: Path, section: str, rows: Any) -> list[Any]:
    if not isinstance(rows, list):
        raise DatalistRefusal(f"{path}: {section} is {rows!r}", allowed="a list of scans", cure="put it in brackets")
    return [_entry(path, f"{section}[{index}]", SECTIONS[section], row) for index, row in enumerate(rows)]


def _entry(path: Path, place: str, kind: type[PoolScan] | type[ScanPair], row: Any) -> Entry:
    known = [field.name for field in fields(kind)]
    needed = known[: 2 if kind is PoolScan else 3]
    row = row if isinstance(row, Mapping) else {}
    for key in row:
        if key not in known:
            raise DatalistRefusal(f"{path}: {place} has {key!r}", allowed=", ".join(known), cure=_nearest(key, known))
    for key in needed:
        if not isinstance(row.get(key), str) or not row[key]:
            raise DatalistRefusal(
                f"{path}: {place} has {key}={row.get(key)!r}",
                allowed="a non-empty string",
                cure=f"give its {key}",
            )
    if kind is ScanPair:
        _check_truth(path, place, row)
    return kind(**{key: _value(path, place, key, value) for key, value in row.items() if value is not None})


def _check_truth(path: Path, place: str, row: Mapping[str, Any]) -> None:
    """A truth needs the protocol that its errors are named by; and a pair's dose is a share."""
    protocol, dose = row.get("truth_protocol"), row.get("dose")
    if (row.get("truth") is None) != (protocol is None) or protocol not in (None, *TRUTH_PROTOCOLS):
        raise DatalistRefusal(
            f"{path}: {place} has truth={row.get('truth')!r} and truth_protocol={protocol!r}",
            allowed=f"both or neither; truth_protocol one of {', '.join(TRUTH_PROTOCOLS)}",
            cure="say whether the anatomy is real or random",
        )
    if dose is not None and not (isinstance(dose, (int, float)) and 0 < dose < 1):
        raise DatalistRefusal(
            f"{path}: {place} has dose={dose!r}",
            allowed="more than 0 and less than 1: the dose of noisy over that of clean",
            cure="leave it out where noisy was not made from clean",
        )


def _value(path: Path, place: str, key: str, value: Any) -> Any:
    if key in {"image", "reference", "noisy", "clean", "truth"}:
        image = _absolute(path.parent / value)
        if not image.exists():
            raise DatalistRefusal(
                f"{path}: {place} {key}={value!r} does not exist",
                allowed="a path that exists, relative to the datalist",
                cure=f"look for it at {image}",
            )
        return image
    if key == "z_range_mm":
        numbers = isinstance(value, list) and all(isinstance(v, (int, float)) for v in value)
        if not numbers or len(value) != 2 or not value[0] <= value[1]:
            raise DatalistRefusal(
                f"{path}: {place} z_range_mm={value!r}",
                allowed="[lowest, highest] in mm",
                cure="order the two",
            )
        return (float(value[0]), float(value[1]))
    return value


def check_leaks(datalist: Datalist) -> None:
    """Refuse a datalist that shows the same anatomy on two sides.

    Noisy pool, clean pool and validation may share a patient only in z-ranges at least 15 mm apart; test
    shares no patient with anything. The truth of a pair is no scan of another side, whatever the patients are called.

    Raises:
        LeakRefusal: naming the patient and both places.
    """
    sides: dict[str, Sequence[Entry]] = {name: getattr(datalist, name) for name in SECTIONS}
    names = list(sides)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            for a in sides[one]:
                for b in sides[other]:
                    _check_apart(one, a, other, b)
                    _check_no_truth(one, a, other, b)


def _check_apart(one: str, a: Entry, other: str, b: Entry) -> None:
    if a.patient != b.patient:
        return
    if other == "test":
        raise LeakRefusal(
            f"test patient {a.patient!r} is also in {one!r}",
            allowed="test patients that nothing else has seen",
            cure=f"take {a.patient!r} out of one of the two",
        )
    if a.z_range_mm is None or b.z_range_mm is None or _gap_mm(a.z_range_mm, b.z_range_mm) < MINIMUM_GAP_MM:
        raise LeakRefusal(
            f"patient {a.patient!r} is in {one!r} (z {_extent(a)}) and in {other!r} (z {_extent(b)})",
            allowed=f"other patients, or z-ranges at least {MINIMUM_GAP_MM:g} mm apart",
            cure="move the patient to one side, or give both entries a z_range_mm",
        )


def _check_no_truth(one: str, a: Entry, other: str, b: Entry) -> None:
    """Names may be wrong: the file that a pair is judged by must not be one that another side shows."""
    for (side, entry), (elsewhere, shown) in (((one, a), (other, b)), ((other, b), (one, a))):
        truth = entry.truth if isinstance(entry, ScanPair) else None
        if truth is not None and truth in _images(shown):
            raise LeakRefusal(
                f"{truth} is the truth of {entry.patient!r} in {side!r} and a scan of {shown.patient!r} in "
                f"{elsewhere!r}",
                allowed="a truth that no other side shows",
                cure="take the scan out of one of the two",
            )


def _images(entry: Entry) -> tuple[Path | None, ...]:
    if isinstance(entry, ScanPair):
        return entry.noisy, entry.clean, entry.truth
    return entry.image, entry.reference


def _gap_mm(one: RANGE, other: RANGE) -> float:
    return max(one[0], other[0]) - min(one[1], other[1])


def _extent(entry: Entry) -> str:
    return "everything" if entry.z_range_mm is None else "{:g} to {:g} mm".format(*entry.z_range_mm)
