"""Folders that share series are one unit, by whatever way they are joined; and by what a changed file is known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from batch.archives import small
from hypothesis import given
from hypothesis import strategies as st

from iscl_monai.batch.prints import digest_of, fingerprint_of
from iscl_monai.batch.units import Folder, look_at, units_of

UIDS = st.lists(st.sampled_from("abcdefgh"), max_size=3, unique=True)


@given(st.lists(UIDS, max_size=8))
def test_units_are_the_connected_parts(uids: list[list[str]]) -> None:
    folders = [Folder(Path(f"/{number}"), str(number), tuple(sorted(each))) for number, each in enumerate(uids)]
    units = units_of(reversed(folders))
    assert sorted(path for unit in units for path in unit.folders) == sorted(one.path for one in folders)
    for unit in units:
        inside = [one for one in folders if one.path in unit.folders]
        outside = {uid for one in folders if one.path not in unit.folders for uid in one.series_uids}
        assert set(unit.series_uids) == {uid for one in inside for uid in one.series_uids}
        assert not outside & set(unit.series_uids)
        reached = {inside[0]}
        for _ in inside:
            joined = {uid for one in reached for uid in one.series_uids}
            reached |= {one for one in inside if joined & set(one.series_uids)}
        assert reached == set(inside)
    assert units == units_of(folders)


def test_a_folder_is_read_again_when_a_file_in_it_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = small(1).write(tmp_path)
    before = look_at(tmp_path)
    assert before.series_uids == (small(1).series_uid,)
    assert look_at(tmp_path, before) is before
    state = files[0].stat()
    files[0].write_bytes(files[0].read_bytes()[:-2] + b"\1\0")
    os.utime(files[0], ns=(state.st_atime_ns, state.st_mtime_ns))
    assert look_at(tmp_path, before).fingerprint != before.fingerprint


def test_digests_are_of_names_and_bytes_alone(tmp_path: Path) -> None:
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        for name in ("a", "b"):
            (tmp_path / place / name).write_bytes(name.encode())
    one, other = (sorted((tmp_path / place).iterdir()) for place in ("one", "other"))
    assert digest_of(one) == digest_of(reversed(other))
    assert fingerprint_of(one) != fingerprint_of(other)
    other[0].write_bytes(b"c")
    assert digest_of(one) != digest_of(other)
    other[0].unlink()
    assert fingerprint_of(other) != fingerprint_of(other[1:])
