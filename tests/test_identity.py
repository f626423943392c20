"""A run is what it was trained on: other data under the same names, or other roles, are another run."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iscl_monai.data import Datalist
from iscl_monai.data.identity import digest_of, first_change
from iscl_monai.errors import LeakRefusal

CONTENT: dict[str, Any] = {
    "noisy": [
        {"image": "low/a", "patient": "A", "z_range_mm": [0, 5], "series_uid": "1.2", "reference": "full/a"},
        {"image": "low/b", "patient": "B", "dose": 0.25},
    ],
    "clean": [{"image": "full/c", "patient": "C"}, {"image": "full/d.nii", "patient": "D"}],
    "validation": [{"noisy": "low/v", "clean": "full/v", "patient": "V"}],
    "test": [{"noisy": "low/t", "clean": "full/t", "patient": "T"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that nobody reads as images: two to a series, one of them in a folder below."""
    made = tmp_path / "data"
    for path in ("low/a", "low/b", "low/v", "low/t", "full/a", "full/c", "full/v", "full/t"):
        (made / path / "below").mkdir(parents=True)
        (made / path / "1.dcm").write_bytes(path.encode() * 9)
        (made / path / "below" / "2.dcm").write_bytes(path.encode() * 99)
    (made / "full" / "d.nii").write_bytes(b"volume")
    write(made, CONTENT)
    return made


def write(folder: Path, content: dict[str, Any]) -> None:
    (folder / "datalist.json").write_text(json.dumps(content))


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write_changed(folder: Path) -> None:
        content = json.loads(json.dumps(CONTENT))
        change(content)
        write(folder, content)

    return write_changed


def flipped(path: str, place: int = -1) -> Callable[[Path], None]:
    """One byte of a file is another one; name, size and date stay."""

    def flip(folder: Path) -> None:
        file = folder / path
        moment = file.stat()
        content = bytearray(file.read_bytes())
        content[place] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(moment.st_atime_ns, moment.st_mtime_ns))

    return flip


def swapped_roles(content: dict[str, Any]) -> None:
    content["noisy"][1], content["clean"][0] = content["clean"][0], content["noisy"][1]


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte of the noisy pool": (flipped("low/b/below/2.dcm"), "noisy scan low/b: image has the same names and sizes"),
    "the first byte of a slice": (flipped("low/a/1.dcm", 0), "noisy scan low/a: image has the same names and sizes"),
    "a byte of the clean pool": (flipped("full/c/1.dcm", 5), "clean scan full/c: image has the same names and sizes"),
    "a byte of a volume file": (flipped("full/d.nii"), "clean scan full/d.nii: image has the same names and sizes"),
    "a byte of a reference": (flipped("full/a/1.dcm"), "noisy scan low/a: reference has the same names and sizes"),
    "a byte of validation": (flipped("low/v/1.dcm"), "validation scan low/v: noisy has the same names and sizes"),
    "a byte of its truth": (flipped("full/v/1.dcm"), "validation scan low/v: clean has the same names and sizes"),
    "a slice more": (
        lambda folder: (folder / "full/c/3.dcm").write_bytes(b"more"),
        "clean scan full/c: image had 2 files of 648 bytes, now it has 3 files of 652 bytes",
    ),
    "a slice less": (
        lambda folder: (folder / "full/c/below/2.dcm").unlink(),
        "clean scan full/c: image had 2 files of 648 bytes, now it has 1 files of 54 bytes",
    ),
    "a file with another name": (
        lambda folder: (folder / "low/b/1.dcm").rename(folder / "low/b/0.dcm"),
        "noisy scan low/b: image",
    ),
    "bytes moved between files": (
        lambda folder: [
            (folder / f"low/b/{n}").write_bytes(b"low/b" * k) for n, k in (("1.dcm", 99), ("below/2.dcm", 9))
        ],
        "noisy scan low/b: image has the same names and sizes",
    ),
    "roles": (rewritten(swapped_roles), "noisy scan low/b is gone"),
    "a scan less": (rewritten(lambda c: c["clean"].pop()), "clean scan full/d.nii is gone"),
    "a scan more": (
        rewritten(lambda c: c["noisy"].append({"image": "low/t", "patient": "X"})),
        "noisy scan low/t is new",
    ),
    "a scan twice": (rewritten(lambda c: c["noisy"].append(c["noisy"][1])), "noisy scan low/b is new"),
    "order": (rewritten(lambda c: c["noisy"].reverse()), "the noisy scans stand in another order"),
    "z range": (
        rewritten(lambda c: c["noisy"][0].update(z_range_mm=[0, 6])),
        "noisy scan low/a: z_range_mm was [0.0, 5.0], now it is [0.0, 6.0]",
    ),
    "series UID": (
        rewritten(lambda c: c["noisy"][0].pop("series_uid")),
        "noisy scan low/a: series_uid was 1.2, now it is None",
    ),
    "patient": (rewritten(lambda c: c["clean"][0].update(patient="c")), "patient was C, now it is c"),
    "reference": (
        rewritten(lambda c: c["noisy"][0].update(reference="full/t")),
        "noisy scan low/a: reference was full/a, now it is full/t",
    ),
    "no reference": (rewritten(lambda c: c["noisy"][0].pop("reference")), "reference was full/a, now it is None"),
    "no validation": (rewritten(lambda c: c.pop("validation")), "validation scan low/v is gone"),
    "the truth of validation": (
        rewritten(lambda c: c["validation"][0].update(clean="full/t")),
        "validation scan low/v: clean was full/v, now it is full/t",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_what_is_trained_on_is_seen_and_named(name: str, folder: Path) -> None:
    change, words = CHANGES[name]
    before = Datalist.load(folder)
    kept = json.loads(json.dumps(before.identity))  # as a checkpoint or a JSON file gives it back
    assert first_change(kept, Datalist.load(folder).identity) == ""
    change(folder)
    after = Datalist.load(folder)
    assert first_change(kept, after.identity).startswith(words) or words in first_change(kept, after.identity)
    assert after.digest != before.digest == digest_of(kept)


def copied(source: str, destination: str) -> Callable[[Path], None]:
    def copy(folder: Path) -> None:
        if (folder / source).is_dir():
            shutil.rmtree(folder / destination)
            shutil.copytree(folder / source, folder / destination)
        else:
            shutil.copy(folder / source, folder / destination)

    return copy


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (copied("low/b", "full/c"), "low/b of 'B' in 'noisy' is full/c of 'C' in 'clean', byte for byte"),
        (copied("full/a", "full/c"), "full/a of 'A' in 'noisy' is full/c of 'C' in 'clean'"),
        (copied("low/a", "low/v"), "low/a of 'A' in 'noisy' is low/v of 'V' in 'validation'"),
        (copied("full/c", "full/v"), "full/c of 'C' in 'clean' is full/v of 'V' in 'validation'"),
        (rewritten(lambda c: c["validation"][0].update(clean="full/c")), "full/c of 'C' in 'clean' is full/c of 'V'"),
        (
            rewritten(lambda c: c["clean"][0].update(image="low/a", series_uid="1.2")),
            "low/a of 'A' in 'noisy' is low/a of 'C' in 'clean'",
        ),
        (
            rewritten(
                lambda c: (
                    c["noisy"].append({**c["noisy"][0], "patient": "E"}),
                    c["clean"].append({**c["noisy"][0], "z_range_mm": [40, 50]}),
                )
            ),
            "low/a of 'E' in 'noisy' is low/a of 'A' in 'clean'",
        ),
    ],
)
def test_one_scan_under_two_names_is_a_leak(change: Callable[[Path], object], words: str, folder: Path) -> None:
    """Patients are told apart by their names in the datalist; a copy under another name is the same one."""
    assert Datalist.load(folder).digest
    change(folder)
    with pytest.raises(LeakRefusal, match=re.escape(words)):
        assert Datalist.load(folder).digest


@pytest.mark.parametrize(
    "change",
    [
        copied("low/a", "low/b"),  # on one side
        rewritten(lambda c: c["validation"][0].update(noisy="full/v")),  # of one patient
        rewritten(lambda c: c["clean"][0].update(patient="A", image="full/a", z_range_mm=[40, 50])),
        rewritten(lambda c: c["clean"][0].update(image="low/a", series_uid="1.3")),  # two series of one folder
        rewritten(
            lambda c: (
                c["validation"][0].update(noisy="low/a", noisy_series_uid="1.3", clean="full/a", clean_series_uid="1.4")
                or c["noisy"][0].update(reference_series_uid="1.5")
            )
        ),
    ],
)
def test_what_no_other_patient_has_is_no_leak(change: Callable[[Path], object], folder: Path) -> None:
    change(folder)
    assert Datalist.load(folder).digest


NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "dates": lambda folder: [os.utime(path, (7, 7)) for path in folder.rglob("*")],
    "test scans": flipped("low/t/1.dcm"),
    "no test": rewritten(lambda c: c.pop("test")),
    "notes": rewritten(lambda c: c["noisy"][1].update(dose=0.5, kernel="soft")),
    "a description": rewritten(lambda c: c.update(description="the same")),
    "a scan nobody lists": lambda folder: (folder / "low" / "stray.dcm").write_bytes(b"stray"),
    "a path written otherwise": rewritten(lambda c: c["clean"][0].update(image="./full/../full/c")),
}


@pytest.mark.parametrize("name", NO_CHANGES)
def test_what_decides_nothing_is_no_change(name: str, folder: Path) -> None:
    before = Datalist.load(folder)
    kept = before.identity
    NO_CHANGES[name](folder)
    after = Datalist.load(folder)
    assert first_change(kept, after.identity) == ""
    assert after.digest == before.digest


def test_the_folder_may_move_as_a_whole(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Datalist.load(folder).identity
    moved = tmp_path / "another" / "place"
    shutil.copytree(folder, moved)
    shutil.rmtree(folder)
    monkeypatch.chdir(moved)
    for path in (moved, "datalist.json", tmp_path / "link"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(moved)
        assert Datalist.load(path).identity == before
    absolute = json.loads(json.dumps(CONTENT))
    absolute["clean"][0]["image"] = str(moved / "full" / "c")
    write(moved, absolute)
    assert Datalist.load(moved).identity == before


def test_links_to_the_scans_may_lie_anywhere(folder: Path, tmp_path: Path) -> None:
    """A datalist of links is known by the names of the links and by what is behind them."""
    store = folder.rename(tmp_path / "store")
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("low", "full", "datalist.json"):
        (linked / name).symlink_to(store / name)
    assert Datalist.load(linked).identity == Datalist.load(store).identity


def test_scans_are_read_once_and_stay_as_they_were_asked_for(folder: Path) -> None:
    datalist = Datalist.load(folder)
    before = datalist.identity
    flipped("low/a/1.dcm")(folder)
    assert datalist.identity is before
