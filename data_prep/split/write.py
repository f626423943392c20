"""A datalist on disk: checked for leaks and read again before it gets its name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from data_prep.split.parts import Option, Part
from data_prep.table import SeriesRow
from iscl_monai.data import Datalist
from iscl_monai.durable import PARTIAL, move_into_place, whole_file
from iscl_monai.errors import DatalistRefusal, OutputRefusal

DATALIST = "datalist.json"


def write_datalist(content: Mapping[str, Any], destination: Path) -> Path:
    """Write ``datalist.json``, load it as training will, and only then give it its name.

    Args:
        content: as in docs/datalist.md, with absolute paths; they are written relative to the datalist where the two
            share a folder.
        destination: folder for it.

    Returns:
        The file. One with the same bytes may stand there already.

    Raises:
        OutputRefusal: when another datalist stands there.
        DatalistRefusal: when it would not load.
        LeakRefusal: when it leaks.
    """
    path = destination / DATALIST
    root = Path(os.path.realpath(destination))
    data = datalist_text(
        {name: _relative(value, root) if isinstance(value, list) else value for name, value in content.items()}
    )
    if path.exists():
        if path.read_bytes() == data:
            Datalist.load(path)
            return path
        raise OutputRefusal(
            f"{path} exists and says otherwise",
            allowed="a folder without a datalist: runs may have been trained on that one",
            cure="give another folder, or remove the file",
        )
    draft = destination / f".{DATALIST}.{os.getpid()}.draft{PARTIAL}"
    try:
        with whole_file(draft) as file:
            file.write(data)
        Datalist.load(draft)
        move_into_place({draft: path})
    except OSError as error:
        raise OutputRefusal(
            f"{path} cannot be written ({error.strerror or error})", allowed="a folder to write in", cure="give another"
        ) from error
    finally:
        with suppress(OSError):  # it has its name already, or could not be made
            draft.unlink()
    return path


def datalist_text(content: Mapping[str, Any]) -> bytes:
    """JSON with one entry per line: to be read, and compared line by line."""

    def section(value: Any) -> str:
        if not value or not isinstance(value, list):
            return json.dumps(value, ensure_ascii=False)
        return "[\n    " + ",\n    ".join(json.dumps(entry, ensure_ascii=False) for entry in value) + "\n  ]"

    lines = ",\n".join(f"  {json.dumps(name)}: {section(value)}" for name, value in content.items())
    return f"{{\n{lines}\n}}\n".encode()


def content_of(options: Mapping[str, Option], shared: frozenset[str], description: str) -> dict[str, Any]:
    """A datalist of what was chosen for each patient.

    Args:
        options: patient -> what becomes of it.
        shared: folders in which a reader would find more than one series.
        description: the text for ``description``.

    Raises:
        DatalistRefusal: when the folder of a series is gone.
    """
    content: dict[str, Any] = {"description": description, "noisy": [], "clean": [], "validation": [], "test": []}
    for patient, option in options.items():
        for section, parts in option.items():
            entry = _scan if section in {"noisy", "clean"} else _pair
            content[section] += [entry(patient, section, part, shared) for part in parts]
    return content


def _scan(patient: str, section: str, part: Part, shared: frozenset[str]) -> dict[str, Any]:
    row = part.row
    dose = 1.0 if section == "clean" else row.dose_fraction if row.simulated_from else None
    return _present(
        image=_existing(row),
        patient=patient,
        dose=dose,
        kernel=row.kernel or None,
        reconstruction=row.reconstruction or None,
        z_range_mm=part.z_range_mm,
        series_uid=_series_uid(row, shared),
        reference=None if part.clean is None else _existing(part.clean),
        reference_series_uid=None if part.clean is None else _series_uid(part.clean, shared),
    )


def _pair(patient: str, section: str, part: Part, shared: frozenset[str]) -> dict[str, Any]:
    if part.clean is None:
        raise AssertionError(f"{section} of {patient} has no clean counterpart")
    return _present(
        noisy=_existing(part.row),
        clean=_existing(part.clean),
        patient=patient,
        z_range_mm=part.z_range_mm,
        dose=part.row.dose_fraction if part.row.simulated_from else None,
        noisy_series_uid=_series_uid(part.row, shared),
        clean_series_uid=_series_uid(part.clean, shared),
    )


def _present(**entries: Any) -> dict[str, Any]:
    return {key: list(value) if key == "z_range_mm" else value for key, value in entries.items() if value is not None}


def _series_uid(row: SeriesRow, shared: frozenset[str]) -> str | None:
    return row.series_uid if row.path in shared else None


def _existing(row: SeriesRow) -> str:
    if not Path(row.path).exists():
        raise DatalistRefusal(
            f"{row.path} of patient {row.patient!r} is gone",
            allowed="a table of what is there",
            cure="scan the archive again",
        )
    return os.path.abspath(row.path)


def _relative(entries: Sequence[Mapping[str, Any]], root: Path) -> list[dict[str, Any]]:
    paths = {"image", "reference", "noisy", "clean"}
    return [{key: near(value, root) if key in paths else value for key, value in row.items()} for row in entries]


def near(path: str, root: Path) -> str:
    """A path as it stands in a datalist below ``root``.

    Relative when both lie below one folder, so that it can be moved; else there is nothing in common to move.
    """
    try:
        common = Path(os.path.commonpath([path, root]))
    except ValueError:  # two drives
        return path
    return path if common == Path(common.anchor) else os.path.relpath(path, root)
