"""``scan`` of whole archives: every file is somewhere, a scan that was ended goes on, and no name gets out."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import (
    generate_uid,
)

from data_prep.archive import record
from data_prep.archive.pool import spread
from data_prep.archive.pseudonym import Pseudonyms, secret_key
from data_prep.archive.record import look_at, without_free_text
from data_prep.archive.scan import scan_archive
from data_prep.table import read_table
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import DicomRefusal, OutputRefusal
from tests.data_prep.archives import GOOD, both, files_below, headers_of, lines, one_row, tissue, write_archive
from tests.data_prep.crash import halve_or_die
from tests.dicom.synthetic import Change, setting


def test_every_file_is_somewhere(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    write_archive(archive)
    scanned = headers_of(archive, tmp_path / "out")
    reasons = {line["path"]: line["reason"] for line in lines(tmp_path / "out/skipped.csv")}
    assert {Path(path).relative_to(archive).as_posix(): reason for path, reason in reasons.items()} == {
        "good/scout000": "localizer (scout)",
        "junk/empty": "not a DICOM file",
        'junk/notes, "quoted".txt': "not a DICOM file",
        "junk/broken": "cannot be opened (No such file or directory)",
        "junk/pipe": "not a regular file",
        "junk/short.dcm": "damaged header (it ends early)",
    }
    assert scanned.files == len(files_below(archive)) == sum(row.slices for row in scanned.rows) + len(reasons)
    assert [Path(row.path).name for row in scanned.rows] == ["a", "b", "gap", "good"]
    assert {Path(row.path).name: row.fit for row in scanned.rows} == {"a": True, "b": True, "gap": False, "good": True}
    assert read_table(tmp_path / "out") == list(scanned.rows)


def test_a_damaged_file_beside_a_series_may_be_a_lost_slice(tmp_path: Path) -> None:
    files = GOOD.write(tmp_path / "archive" / "good")
    replace(GOOD, series_uid=generate_uid()).write(tmp_path / "archive" / "good-2")
    files[4].write_bytes(files[4].read_bytes()[:400])
    verdicts = [row.verdict for row in headers_of(tmp_path / "archive", tmp_path / "out").rows]
    assert verdicts == ["damaged files beside it (1): maybe lost slices", "fit"]
    with pytest.raises(DicomRefusal, match="ends early"):
        read_series(tmp_path / "archive" / "good")


def test_a_folder_linked_twice_counts_once(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "archive" / "b")
    (tmp_path / "archive" / "c").symlink_to(tmp_path / "archive" / "b")
    (tmp_path / "archive" / "b" / "loop").symlink_to(tmp_path / "archive")
    row = one_row(tmp_path / "archive")
    assert (row.verdict, row.slices) == ("fit", 5)


@pytest.mark.parametrize("changed", [False, True])
def test_a_copied_folder_is_the_same_series_unless_an_image_differs(tmp_path: Path, changed: bool) -> None:
    GOOD.write(tmp_path / "archive" / "a" / "b")
    for file in (tmp_path / "archive/a/b").iterdir():  # the synthetic writer gives each file the preface it needs
        data = dcmread(file)
        data.save_as(file)
    shutil.copytree(tmp_path / "archive/a/b", tmp_path / "archive/a/c")
    if changed:
        data = dcmread(tmp_path / "archive/a/c/slice002")
        data.PixelData = data.PixelData[::-1]
        data.save_as(tmp_path / "archive/a/c/slice002")
    row = one_row(tmp_path / "archive")
    assert (row.verdict, row.slices) == (
        ("duplicates: 1 slice at the place of another (1 with the UID of another)", 6) if changed else ("fit", 5)
    )
    assert row.path == str(tmp_path / "archive/a" / ("" if changed else "b"))


def test_a_locked_folder_is_told(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "archive" / "good")
    (tmp_path / "archive" / "locked").mkdir(mode=0)
    if os.access(tmp_path / "archive" / "locked", os.R_OK):
        pytest.skip("root opens every folder")
    scanned = headers_of(tmp_path / "archive", tmp_path / "out")
    assert scanned.skipped == ((str(tmp_path / "archive/locked"), "cannot be opened (Permission denied)"),)


def test_a_folder_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "archive") + b"/M\xfcller"))
    GOOD.write(folder)
    (folder / "notes").write_text("of the scan")
    row = one_row(tmp_path / "archive")
    assert row.verdict == "its folder's name is not UTF-8: rename it"
    assert row.path.endswith("M\\xfcller")
    assert lines(tmp_path / "out/skipped.csv")[0]["path"].endswith("M\\xfcller/notes")


def test_an_empty_archive(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    scanned = headers_of(tmp_path / "archive", tmp_path / "out")
    assert (scanned.rows, scanned.files, read_table(tmp_path / "out")) == ((), 0, [])


def results(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("series.parquet", "series.csv", "skipped.csv", "index.html")}


def with_key_of(out: Path, other: Path) -> Path:
    other.mkdir()
    shutil.copy(out / "patient.key", other)
    return other


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive")
    scan_archive(tmp_path / "archive", tmp_path / "out")
    other = with_key_of(tmp_path / "out", tmp_path / "other")
    scan_archive(tmp_path / "archive", other, workers=2)
    assert results(other) == results(tmp_path / "out")


def test_a_task_that_ends_its_process_harms_no_other() -> None:
    assert list(spread(halve_or_die, range(20), 2)) == [(n, None if n == 7 else n // 2) for n in range(20)]


# ---------------------------------------------------------------- resume


KILLED_SCAN = """
import os, signal, sys
from data_prep.__main__ import main
from data_prep.archive import record

look_at, looked_at = record.look_at, []

def look_at_or_die(*arguments):
    looked_at.append(arguments)
    if len(looked_at) == 150:
        os.kill(os.getpid(), signal.SIGKILL)
    return look_at(*arguments)

record.look_at = look_at_or_die
main(["scan", sys.argv[1], sys.argv[2], "--no-pixels", "--workers", "1"])
"""
"""The command, killed while it reads the second hundred of files."""


@pytest.mark.slow
def test_a_killed_scan_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    write_archive(archive)
    for copy in range(40):
        shutil.copytree(archive / "good", archive / "more" / f"{copy:03d}")
    command = [sys.executable, "-c", KILLED_SCAN, str(archive), str(out)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "series.parquet").exists()
    base = sqlite3.connect(out / ".cache/headers.sqlite")
    ((kept, whole),) = base.execute("SELECT count(*), sum(1 - damaged) FROM files")
    base.close()
    every = len(files_below(archive))
    assert 0 < kept < 150 < every

    looked_at: list[Path] = []
    monkeypatch.setattr(record, "look_at", lambda path, names: looked_at.append(path) or look_at(path, names))
    counted: list[int] = []
    scan_archive(archive, out, pixels=False, on_file=counted.append)
    assert sum(counted) == every
    assert len(looked_at) == every - whole, "it began again"
    other = with_key_of(out, tmp_path / "other")
    headers_of(archive, other)
    assert results(out) == results(other)


def test_files_are_read_once_until_they_change(tmp_path: Path) -> None:
    files = GOOD.write(tmp_path / "archive")
    before = headers_of(tmp_path / "archive", tmp_path / "out")
    state = files[2].stat()
    files[2].write_bytes(bytes(state.st_size))
    os.utime(files[2], ns=(state.st_atime_ns, state.st_mtime_ns))
    assert headers_of(tmp_path / "archive", tmp_path / "out").rows == before.rows  # it was not looked at again
    os.utime(files[2], ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    after = headers_of(tmp_path / "archive", tmp_path / "out")
    assert after.rows[0].verdict == "gap: 1 slice missing"
    lost = "not a DICOM file: no known content, where a slice may have been"
    assert after.skipped == ((str(files[2]), lost),)
    files[2].unlink()
    assert headers_of(tmp_path / "archive", tmp_path / "out").skipped == ()


def test_pixels_are_measured_again_when_they_change(tmp_path: Path) -> None:
    replace(GOOD, rows=96, columns=96, change=tissue(10)).write(tmp_path / "archive")
    first = scan_archive(tmp_path / "archive", tmp_path / "out").rows[0].noise_hu or 0
    assert scan_archive(tmp_path / "archive", tmp_path / "out").rows[0].noise_hu == first
    replace(GOOD, rows=96, columns=96, change=tissue(20)).write(tmp_path / "archive")
    assert scan_archive(tmp_path / "archive", tmp_path / "out").rows[0].noise_hu == pytest.approx(2 * first, rel=0.1)


def test_a_spoilt_cache_is_made_again(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "archive")
    before = headers_of(tmp_path / "archive", tmp_path / "out")
    (tmp_path / "out/.cache/headers.sqlite").write_bytes(b"no database" * 999)
    assert headers_of(tmp_path / "archive", tmp_path / "out") == before


def test_two_scans_into_one_folder_are_refused(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "archive")
    headers_of(tmp_path / "archive", tmp_path / "out")
    other = sqlite3.connect(tmp_path / "out/.cache/headers.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OutputRefusal, match="one scan at a time"):
        headers_of(tmp_path / "archive", tmp_path / "out")
    other.close()


def test_a_full_disk_is_told_at_the_start(tmp_path: Path) -> None:
    from data_prep.archive.store import store_refusal

    message = str(store_refusal(tmp_path / "base", sqlite3.OperationalError("database or disk is full")))
    assert "no space left" in message
    assert "one scan at a time" in str(store_refusal(tmp_path, sqlite3.OperationalError("database is locked")))
    assert "remove it" in str(store_refusal(tmp_path, sqlite3.DatabaseError("database disk image is malformed")))
    assert "cannot be used" in str(store_refusal(tmp_path / "gone/base", sqlite3.OperationalError("disk I/O error")))


def limited(archive: Path, out: Path, bytes_: int) -> subprocess.CompletedProcess[str]:
    """A scan whose database may not grow beyond some size: sqlite then says that the disk is full."""
    script = (
        "import sqlite3, sys; from data_prep.archive import store; from data_prep.__main__ import main\n"
        "opened = store.sqlite3.connect\n"
        "def connect(*args, **options):\n"
        "    base = opened(*args, **options)\n"
        f"    base.execute('PRAGMA max_page_count = {bytes_ // 4096}')\n"
        "    return base\n"
        "store.sqlite3.connect = connect\n"
        f"sys.exit(main(['scan', {str(archive)!r}, {str(out)!r}, '--no-pixels', '--workers', '1']))"
    )
    root = Path(__file__).parents[2]
    # Coverage has a database of its own, which would not grow either.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("bytes_", [8192, 49152])
def test_a_disk_that_gets_full_is_told_in_one_line(tmp_path: Path, bytes_: int) -> None:
    replace(GOOD, slots=range(120), rows=4).write(tmp_path / "archive")
    run = limited(tmp_path / "archive", tmp_path / "out", bytes_)
    assert run.returncode == 2, run.stderr
    assert "no space left" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert headers_of(tmp_path / "archive", tmp_path / "out").rows[0].slices == 120, "and goes on with more room"


def test_results_that_find_no_room_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    GOOD.write(tmp_path / "archive")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("data_prep.archive.scan.write_table", full)
    with pytest.raises(OutputRefusal, match="no space left"):
        headers_of(tmp_path / "archive", tmp_path / "out")


@pytest.mark.parametrize("text", ["", "[1, 2]", "null", '["reason"', '[{"nonsense": 1}, {}]'])
def test_a_damaged_record_is_read_again(tmp_path: Path, text: str) -> None:
    GOOD.write(tmp_path / "archive")
    (tmp_path / "archive" / "notes").write_text("no DICOM")
    before = scan_archive(tmp_path / "archive", tmp_path / "out")
    for where in ("slice001", "notes"):
        base = sqlite3.connect(tmp_path / "out/.cache/headers.sqlite")
        path = os.fsencode(tmp_path / "archive" / where)
        assert base.execute("UPDATE files SET record = ? WHERE path = ?", (text, path)).rowcount == 1
        base.execute("UPDATE measured SET result = ?", (text,))
        base.commit()
        base.close()
        assert scan_archive(tmp_path / "archive", tmp_path / "out") == before


# ---------------------------------------------------------------- privacy

SECRET = "ZZTOPSECRET"


def with_secrets(dataset: FileDataset, index: int) -> None:
    dataset.PatientID = SECRET
    dataset.PatientName = f"{SECRET}^JANE"
    dataset.PatientBirthDate, dataset.AccessionNumber = "19331122", SECRET
    for keyword in (
        "SeriesDescription",
        "StudyDescription",
        "ProtocolName",
        "ReferringPhysicianName",
        "PatientComments",
    ):
        setattr(dataset, keyword, f"{SECRET} Chest")
    dataset.BodyPartExamined = f"{SECRET}^X"


def all_bytes(out: Path) -> bytes:
    return b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "more",
    [
        setting(),
        setting(RescaleType=SECRET),
        setting(Modality=f"{SECRET}^"),
        setting(ImageType=["ORIGINAL", "PRIMARY", f"{SECRET}^"]),
        setting(ImagePositionPatient=None),
        lambda data, index: setattr(data, "PatientID", f"{SECRET}{index}"),
        setting(PhotometricInterpretation=SECRET),
        setting(FrameOfReferenceUID=None),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about values that are not what they should be
def test_no_result_tells_who_the_patient_is(tmp_path: Path, more: Change) -> None:
    replace(GOOD, change=both(with_secrets, more)).write(tmp_path / "archive")
    scanned = scan_archive(tmp_path / "archive", tmp_path / "out")
    everything = all_bytes(tmp_path / "out")  # the cache too
    assert SECRET.encode() not in everything
    assert b"19331122" not in everything
    assert all(row.body_part == "CHEST" for row in scanned.rows)


def test_the_cache_is_for_its_owner_alone(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "archive")
    headers_of(tmp_path / "archive", tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/.cache").stat().st_mode) == 0o700


def test_pseudonyms(tmp_path: Path) -> None:
    key = secret_key(tmp_path)
    assert stat.S_IMODE((tmp_path / "patient.key").stat().st_mode) == 0o600
    assert secret_key(tmp_path) == key
    names = Pseudonyms(key)
    assert names.of("A") == names.of("A") != names.of("B")
    assert names.of("A").startswith("p-")
    assert names.of("A") != Pseudonyms(bytes(32)).of("A")
    assert names.of("") == ""
    (tmp_path / "patient.key").write_bytes(b"short")
    with pytest.raises(OutputRefusal, match="5 bytes"):
        secret_key(tmp_path)


def test_ids_are_written_when_asked_for_and_no_longer_when_not(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "archive")
    kept = headers_of(tmp_path / "archive", tmp_path / "out", keep_patient_ids=True)
    assert kept.rows[0].patient == "P1"
    assert not (tmp_path / "out/patient.key").exists()
    hidden = headers_of(tmp_path / "archive", tmp_path / "out")
    assert hidden.rows[0].patient == headers_of(tmp_path / "archive", tmp_path / "out").rows[0].patient != "P1"


def test_a_blank_patient_id_stays_blank(tmp_path: Path) -> None:
    replace(GOOD, change=setting(PatientID=" ")).write(tmp_path / "archive")
    assert one_row(tmp_path / "archive").patient == ""


@pytest.mark.parametrize(("reason", "shown"), [
    ("Modality SR (Basic Text SR Storage), not CT", "Modality SR (Basic Text SR Storage), not CT"),
    ("Modality absent (unknown object), not CT", "Modality absent (unknown object), not CT"),
    ("Modality DOE^J (unknown object), not CT", "Modality another one, not CT"),
    ("Modality SR (Jane Doe), not CT", "Modality another one, not CT"),
    ("ImageType value 3 is MPR, not AXIAL", "ImageType value 3 is MPR, not AXIAL"),
    ("ImageType value 3 is Jane, not AXIAL", "ImageType value 3 is another one, not AXIAL"),
    ("1.2.3, not CT Image Storage", "1.2.3, not CT Image Storage"),
    ("Jane Doe, not CT Image Storage", "another object, not CT Image Storage"),
    ("multi-frame Jane, not Enhanced CT", "another object, not Enhanced CT"),
    ("localizer (scout)", "localizer (scout)"),
])  # fmt: skip
def test_reasons_quote_codes_alone(reason: str, shown: str) -> None:
    assert without_free_text(reason) == shown
