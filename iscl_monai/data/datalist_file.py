"""The file of a datalist: its sections and keys, each of its type, or a refusal that names the place."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from iscl_monai.data.scan import OF_MICROGRAPHS, Entry, PoolScan, ScanPair
from iscl_monai.data.splits import protocol_names
from iscl_monai.domain import Domain
from iscl_monai.errors import DatalistRefusal
from iscl_monai.quality.protocol import TRUTH_PROTOCOLS

SECTIONS: dict[str, type[PoolScan] | type[ScanPair]] = {
    "noisy": PoolScan,
    "clean": PoolScan,
    "validation": ScanPair,
    "test": ScanPair,
}
OF_STACKS = ("number_nm", "least_gap_nm")
"""What a datalist of sections says of all of them: how far successive numbers are apart, and how far roles."""


def absolute(path: Path) -> Path:
    """Without following links: whatever they lead to, a scan is known by its place beside the datalist."""
    return Path(os.path.abspath(path))


def distance_nm(path: Path, name: str, value: Any) -> float:
    """A distance of sections, checked; of the key ``name``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise DatalistRefusal(f"{path}: {name} {value!r}", allowed="a positive number of nm", cure="mend it")
    return float(value)


def read_content(path: Path, domain: Domain) -> dict[str, Any]:
    """The JSON of a datalist, its top-level keys checked."""
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
    stacks = domain.extent.key == "sections"
    known = [*SECTIONS, "description", "split_protocol", *(OF_STACKS if stacks else ())]
    for key in content:
        if key not in known:
            _check_stack(path, key, domain)
            raise DatalistRefusal(f"{path}: section {key!r}", allowed=", ".join(known), cure=_nearest(key, known))
    return content


def _check_stack(path: Path, key: str, domain: Domain) -> None:
    """Tell a datalist of micrographs from a misspelt one."""
    if key in (*OF_STACKS, *OF_MICROGRAPHS):
        raise DatalistRefusal(
            f"{path}: {key!r}, of micrographs",
            allowed=f"a datalist of {domain.title}",
            cure="give --domain micrograph, as em.json does",
        )


def split_protocol_of(path: Path, content: Mapping[str, Any]) -> str:
    """The published split that a datalist names; empty: none."""
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


def entries_of(path: Path, section: str, rows: Any, domain: Domain) -> list[Any]:
    """The entries of one section, each key checked, paths absolute."""
    if not isinstance(rows, list):
        raise DatalistRefusal(f"{path}: {section} is {rows!r}", allowed="a list of scans", cure="put it in brackets")
    return [_entry(path, f"{section}[{index}]", SECTIONS[section], row, domain) for index, row in enumerate(rows)]


def _entry(path: Path, place: str, kind: type[PoolScan] | type[ScanPair], row: Any, domain: Domain) -> Entry:
    others = ("z_range_mm",) if domain.extent.key == "sections" else OF_MICROGRAPHS
    known = [field.name for field in fields(kind) if field.name not in others]
    needed = known[: 2 if kind is PoolScan else 3]
    row = row if isinstance(row, Mapping) else {}
    for key in row:
        if key not in known:
            _check_stack(path, key, domain)
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
        image = absolute(path.parent / value)
        if not image.exists():
            raise DatalistRefusal(
                f"{path}: {place} {key}={value!r} does not exist",
                allowed="a path that exists, relative to the datalist",
                cure=f"look for it at {image}",
            )
        return image
    if key == "sections":
        if not isinstance(value, list) or not value or any(type(one) is not int for one in value):
            raise DatalistRefusal(
                f"{path}: {place} sections={value!r}",
                allowed="a list of numbers of sections, not empty",
                cure="leave it out for all of them",
            )
        return tuple(value)
    if key in ("z_range_mm", "grey_range"):
        numbers = isinstance(value, list) and all(isinstance(v, (int, float)) for v in value)
        if not numbers or len(value) != 2 or not value[0] <= value[1]:
            raise DatalistRefusal(
                f"{path}: {place} {key}={value!r}",
                allowed="[lowest, highest]" + (" in mm" if key == "z_range_mm" else ""),
                cure="order the two",
            )
        return (float(value[0]), float(value[1]))
    return value
