"""``scan`` on archives made to be good or wrong in one chosen way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from data_prep.__main__ import main
from data_prep.archive.facts import dose_in_folders, dose_in_words
from data_prep.archive.pseudonym import Pseudonyms
from data_prep.archive.record import look_at
from data_prep.archive.scan import scan_archive
from data_prep.archive.verdict import place_of
from data_prep.table import read_table
from iscl_monai.dicom.series import find_series, read_series
from iscl_monai.errors import DicomRefusal
from tests.data_prep.archives import GOOD, both, headers_of, one_row, tissue, write_archive
from tests.dicom.multiframe import Enhanced
from tests.dicom.synthetic import Change, Series, only, setting
from tests.report.valid_html import check_page

# ---------------------------------------------------------------- one series


@pytest.mark.parametrize(
    ("series", "verdict", "geometry"),
    [
        (GOOD, "fit", "even"),
        (replace(GOOD, step=(0, 0.6, 2)), "fit", "tilted"),
        (replace(GOOD, slots=[0]), "fit", "single slice"),
        (replace(GOOD, slots=[0, 1, 2, 4, 5, 7]), "gap: 2 slices missing", "gap"),
        (replace(GOOD, slots=[0, 1, 2, 3.5, 4.5]), "uneven: slices 2 to 3 mm apart", "uneven"),  # type: ignore[list-item]
        (replace(GOOD, slots=[0, 1, 1, 2]), "duplicates: 1 slice at the place of another (other images)", "duplicates"),
        (replace(GOOD, orientation=(1, 0, 0, 0, 0, -1)), "not axial (coronal)", "not axial"),
        (replace(GOOD, orientation=(0, 1, 0, 0, 0, -1)), "not axial (sagittal)", "not axial"),
        (replace(GOOD, change=setting(ImagePositionPatient=None)),
         "ImagePositionPatient absent or malformed", "unknown"),
        (replace(GOOD, change=setting(PixelSpacing=None)), "PixelSpacing absent or malformed", "even"),
        (replace(GOOD, change=setting(RescaleType="US")), "RescaleType is not HU", "even"),
        (replace(GOOD, change=setting(RescaleSlope=0)), "RescaleSlope absent or impossible", "even"),
        (replace(GOOD, change=setting(ImageType=["DERIVED", "SECONDARY", "AXIAL", "DENOISED"])),
         "denoised by iscl-monai already", "even"),
        (replace(GOOD, change=lambda data, index: setattr(data, "PatientID", f"P{index}")),
         "PatientID differs within the series", "even"),
        (replace(GOOD, change=lambda data, index: setattr(
            data, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0] if index else [1, 0, 0, 0, 0, -1])),
         "slices of different orientations", "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_verdict(tmp_path: Path, series: Series, verdict: str, geometry: str) -> None:
    series.write(tmp_path / "archive")
    row = one_row(tmp_path / "archive")
    assert (row.verdict, row.geometry, row.slices) == (verdict, geometry, len(series.slots))
    if not verdict.startswith(("not axial", "denoised")):
        try:
            read_series(tmp_path / "archive")
        except DicomRefusal:
            assert not row.fit
        else:
            assert row.fit


def test_numbers_of_a_series(tmp_path: Path) -> None:
    def tell(dataset: FileDataset, index: int) -> None:
        dataset.XRayTubeCurrent, dataset.ExposureTime, dataset.Exposure = 100 + index, 500, 7
        dataset.CTDIvol, dataset.ContrastBolusAgent, dataset.ProtocolName = 4 + index, "Iopromide", "Thorax routine"

    replace(GOOD, change=tell).write(tmp_path / "archive" / "deeper")
    row = one_row(tmp_path / "archive")
    assert (row.path, row.mas, row.ctdi_vol_mgy, row.contrast) == (str(tmp_path / "archive/deeper"), 51, 6, True)
    assert (row.pixel_spacing_mm, row.field_of_view_mm, row.rows, row.columns) == (0.5, 36, 40, 48)
    assert (row.z_lowest_mm, row.z_highest_mm, row.slice_step_mm, row.slice_thickness_mm) == (100, 108, 2, 2)
    assert (row.kernel, row.kvp, row.model, row.manufacturer, row.tilt_deg) == ("Br38f\\3", 120, "Model", "Nobody", 0)
    assert (row.body_part, row.series_uid, row.study_uid) == ("CHEST", GOOD.series_uid, GOOD.study_uid)


def test_iterative_reconstruction_is_a_column_of_table_and_page(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    replace(GOOD, change=setting(Manufacturer="SIEMENS")).write(archive / "one")

    def mixed(dataset: FileDataset, index: int) -> None:
        dataset.Manufacturer, dataset.ConvolutionKernel = "GE", "STANDARD"
        dataset.SeriesDescription = "ASIR 40 of somebody" if index else "somebody"

    replace(GOOD, series_uid=generate_uid(), change=mixed).write(archive / "two")
    replace(GOOD, series_uid=generate_uid(), change=setting(ConvolutionKernel="B30f")).write(archive / "three")
    scanned = headers_of(archive, tmp_path / "out")
    named = {Path(row.path).name: row.reconstruction for row in scanned.rows}
    assert named == {"one": "SAFIRE or ADMIRE 3", "two": "ASiR 40", "three": ""}
    assert [row.reconstruction for row in read_table(tmp_path / "out")] == [row.reconstruction for row in scanned.rows]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "ASiR 40" in page
    assert "somebody" not in page


def test_the_ends_of_a_series_lie_within_its_range(tmp_path: Path) -> None:
    replace(GOOD, origin=(0, 0, -624.800049), spacing_mm=0.333333).write(tmp_path / "archive")
    row = one_row(tmp_path / "archive")
    assert row.z_lowest_mm is not None
    assert row.z_highest_mm is not None
    assert len(read_series(tmp_path / "archive", z_range_mm=(row.z_lowest_mm, row.z_highest_mm)).files) == 5


def test_tilt_and_positions(tmp_path: Path) -> None:
    replace(GOOD, step=(0, 2 * np.tan(np.radians(15)), 2)).write(tmp_path)
    place = place_of(find_series(tmp_path).series[0].headers)
    assert (place.geometry, place.tilt_deg) == ("tilted", pytest.approx(15, abs=1e-3))


def test_multiframe_is_a_row_and_not_fit(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    Enhanced(frames=4).write(tmp_path / "archive" / "a.dcm")
    row = one_row(tmp_path / "archive")
    assert (row.verdict, row.slices) == ("multi-frame (Enhanced) CT: not supported for training", 4)


def test_our_own_output_is_known_by_the_equipment_that_contributed(tmp_path: Path) -> None:
    ours = Dataset()
    ours.Manufacturer = "iscl_monai contributors"
    replace(GOOD, change=setting(ContributingEquipmentSequence=Items([ours]))).write(tmp_path / "archive")
    assert one_row(tmp_path / "archive").verdict == "denoised by iscl-monai already"


@pytest.mark.parametrize(("kind", "title", "fraction", "average", "dose"), [
    ("SIMULATED", "scan | SIMULATED 0.25 DOSE", 0.25, 1, "low"),
    ("SIMULATED", "scan | SIMULATED 0.0 DOSE", 1, 1, "low"),
    ("AVERAGED", "scan | MEAN OF 0 SLICES", 1, 1, "unknown"),
    ("AVERAGED", "scan | MEAN OF 3 SLICES", 1, 3, "unknown"),
    ("HELIX", "scan | SIMULATED 0.25 DOSE", 1, 1, "unknown"),
])  # fmt: skip
def test_simulated_series(tmp_path: Path, kind: str, title: str, fraction: float, average: int, dose: str) -> None:
    change_headers = setting(
        ImageType=["DERIVED", "SECONDARY", "AXIAL", kind], SeriesDescription=title, RescaleType="HU"
    )
    replace(GOOD, change=change_headers).write(tmp_path / "archive")
    row = one_row(tmp_path / "archive")
    assert (row.verdict, row.dose_fraction, row.average, row.dose_class) == ("fit", fraction, average, dose)


@pytest.mark.parametrize(("text", "dose"), [
    ("CHEST LOW DOSE", "low"), ("chest_low-dose 1.0", "low"), ("LDCT lung", "low"), ("Thorax LD 1mm", "low"),
    ("ULDCT", "low"), ("Full dose images", "full"), ("routine dose", "full"), ("GOLD standard", ""), ("old", ""),
    ("low dose and full dose", ""), ("dose report", ""), ("", ""), ("LOWER LEG", ""),
])  # fmt: skip
def test_dose_in_words(text: str, dose: str) -> None:
    assert dose_in_words([text]) == dose


def test_dose_in_folder_names() -> None:
    assert dose_in_folders(["C002", "1.000000-Low Dose Images-39882"]) == "low"
    assert dose_in_folders(["1.000000-Full Dose Images-15024"]) == "full"
    assert dose_in_folders(["LD", "low", "dose"]) == ""


@pytest.mark.parametrize(
    ("ctdi", "part", "dose"), [(2.9, "CHEST", "low"), (3.1, "CHEST", "unknown"), (2, "HEAD", "unknown")]
)
def test_dose_of_a_chest(tmp_path: Path, ctdi: float, part: str, dose: str) -> None:
    replace(GOOD, change=setting(CTDIvol=ctdi, BodyPartExamined=part)).write(tmp_path / "archive")
    assert one_row(tmp_path / "archive").dose_class == dose


def test_the_folder_of_a_tcia_collection_tells_the_dose(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "archive" / "C002" / "1.000000-Low Dose Images-39882")
    assert one_row(tmp_path / "archive").dose_class == "low"


def test_noise_and_picture(tmp_path: Path) -> None:
    replace(GOOD, rows=96, columns=96, change=tissue()).write(tmp_path / "archive")
    scanned = scan_archive(tmp_path / "archive", tmp_path / "out")
    assert scanned.rows[0].verdict == "fit"
    assert scanned.rows[0].noise_hu == pytest.approx(11, abs=1.0)  # the 10th percentile lies below the mean of 12
    assert 0 < (scanned.rows[0].noise_peak_per_mm or 0) < 0.7
    assert (tmp_path / "out/index.html").read_text().count("data:image/png") == 1


def test_no_picture_where_text_is_burned_in(tmp_path: Path) -> None:
    burned = setting(BurnedInAnnotation="YES")
    replace(GOOD, rows=96, columns=96, change=both(tissue(), burned)).write(tmp_path / "archive")
    scanned = scan_archive(tmp_path / "archive", tmp_path / "out")
    assert scanned.rows[0].noise_hu is not None
    assert "data:image/png" not in (tmp_path / "out/index.html").read_text()


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (setting(BitsStored=8, HighBit=7), "pixels beyond BitsStored"),
        (lambda data, index: setattr(data, "PixelData", bytes(len(data.PixelData))),
         "no tissue: nothing above -300 HU in the slices looked at"),
    ],
)  # fmt: skip
def test_pixels_can_spoil_a_verdict(tmp_path: Path, change: Change, verdict: str) -> None:
    replace(GOOD, change=change).write(tmp_path / "archive")
    assert scan_archive(tmp_path / "archive", tmp_path / "out").rows[0].verdict == verdict
    assert one_row(tmp_path / "archive").fit  # headers alone cannot know


# ---------------------------------------------------------------- pixels


def cut(bytes_: int) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(file.read_bytes()[:-bytes_])


def shortened(file: Path) -> None:
    data = dcmread(file)
    data.PixelData = data.PixelData[:100]
    data.save_as(file)


def without_pixels(file: Path) -> None:
    data = dcmread(file)
    del data.PixelData
    data.save_as(file)


@pytest.mark.parametrize(
    ("damage", "rle"),
    [
        *((damage, rle) for damage in (cut(1), cut(2), cut(600), cut(2500), without_pixels) for rle in (False, True)),
        (shortened, False),
    ],
)
@pytest.mark.parametrize("place", [1, 19])
def test_a_copy_cut_short_is_damaged(
    tmp_path: Path, damage: Callable[[Path], object], place: int, *, rle: bool
) -> None:
    files = replace(GOOD, slots=range(20), rle=rle).write(tmp_path / "archive")
    assert one_row(tmp_path / "archive").fit
    damage(files[place])  # not one of the slices that are looked at
    scanned = scan_archive(tmp_path / "archive", tmp_path / "out")
    assert [row.fit for row in scanned.rows] == [False]
    assert scanned.skipped == ((str(files[place]), "damaged pixels (absent, ending early or of another length)"),)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian]
)
def test_whole_files_of_other_transfer_syntaxes_and_ends_are_whole(tmp_path: Path, syntax: UID) -> None:
    for file in replace(GOOD, rows=5, columns=7).write(tmp_path / "archive"):
        data = dcmread(file)
        data.file_meta.TransferSyntaxUID = syntax
        data.BitsAllocated = data.BitsStored = 8  # 35 bytes and one to make it even
        data.HighBit, data.PixelData = 7, bytes(36)
        if syntax == ExplicitVRBigEndian:
            data["PixelData"].VR = "OW"
        dcmwrite(file, data, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
        if syntax == ExplicitVRLittleEndian:  # padding behind the pixels (PS3.10 7.2)
            file.write_bytes(file.read_bytes() + bytes.fromhex("fcfffcff4f42000004000000") + bytes(4))
    assert one_row(tmp_path / "archive").fit


def test_a_slice_that_calls_itself_a_scout_leaves_its_series_unfit_and_no_other(tmp_path: Path) -> None:
    axial = setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    replace(GOOD, change=only(0, axial)).write(tmp_path / "archive")
    replace(GOOD, series_uid=generate_uid(), prefix="other").write(tmp_path / "archive")
    rows = headers_of(tmp_path / "archive", tmp_path / "out").rows
    assert sorted(row.verdict for row in rows) == ["damaged files beside it (1): maybe lost slices", "fit"]


def test_files_without_a_series_uid_beside_others(tmp_path: Path) -> None:
    some = replace(
        GOOD, slots=range(8), change=lambda data, index: index % 2 and setattr(data, "SeriesInstanceUID", "")
    )
    some.write(tmp_path / "archive" / "mixed")
    replace(GOOD, series_uid=generate_uid(), change=setting(SeriesInstanceUID="")).write(tmp_path / "archive" / "above")
    replace(GOOD, series_uid=generate_uid()).write(tmp_path / "archive" / "above" / "below")
    rows = headers_of(tmp_path / "archive", tmp_path / "out").rows
    assert [(Path(row.path).name, row.verdict) for row in rows] == [
        ("above", "without SeriesInstanceUID among other series (5 files)"),
        ("below", "fit"),
        ("mixed", "without SeriesInstanceUID among other series (4 files)"),
        ("mixed", "files without SeriesInstanceUID beside it (4): maybe its slices"),
    ]


# ---------------------------------------------------------------- command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_archive(tmp_path / "archive")
    assert main(["scan", str(tmp_path / "archive"), str(tmp_path / "out"), "--no-pixels", "--workers", "1"]) == 0
    output = capsys.readouterr().out
    assert "3 of 4 series are fit" in output
    assert output.splitlines()[-4:] == [
        str(tmp_path / "out" / name) for name in ("series.parquet", "series.csv", "skipped.csv", "index.html")
    ]
    page = (tmp_path / "out/index.html").read_text()
    check_page(page, scripts=1)
    assert "gap: 1 slice missing" in page
    assert 'src="http' not in page
    assert "href=" not in page


@pytest.mark.parametrize(("archive", "out", "words"), [
    ("absent", "out", "absent"),
    ("file", "out", "a folder"),
    ("archive", "archive/out", "lies inside"),
    ("archive", "archive", "lies inside"),
    ("archive", "linked/out", "lies inside"),
    ("archive", "file/out", "cannot be written"),
    ("leading", "leads", "leads to the results"),
])  # fmt: skip
def test_refusals(tmp_path: Path, archive: str, out: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("archive", "leading", "leads"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "leads/old.csv").touch()
    (tmp_path / "linked").symlink_to(tmp_path / "archive")
    (tmp_path / "leading/link").symlink_to(tmp_path / "leads")
    assert main(["scan", str(tmp_path / archive), str(tmp_path / out), "--workers", "1"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "; do: " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("words", "message"), [
    (["scan", "archive"], "Missing argument 'OUT'; allowed: python -m data_prep scan [OPTIONS]"),
    (["scna"], "No such command 'scna'. Did you mean 'scan'?; allowed: degrade, dose, mayo, phantom, scan, split"),
    (["scan", "a", "b", "--worker", "2"], "--worker"),
    (["scan", "a", "b", "--workers", "none"], "Invalid value for '--workers' 'none'; allowed: a valid integer"),
    (["dose", "a", "b", "--fraction", "0.5", "--workers", "0"], "'--workers' '0'; allowed: greater than or equal to 1"),
])  # fmt: skip
def test_words_that_make_no_sense_are_refused_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert "; do: python -m data_prep " in said.err
    assert not said.out


def test_help_and_interruption(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["scan", "--help"]) == 0
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out.count("Usage: python -m data_prep") == 2
    assert not said.err

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("data_prep.archive.scan.scan_archive", interrupted)
    assert main(["scan", "a", "b"]) == 130


def test_looking_at_a_file_raises_nothing(tmp_path: Path) -> None:
    record = look_at(tmp_path / "absent", Pseudonyms(None))
    assert (record.reason, record.damaged, record.key()) == ("cannot be opened (No such file or directory)", True, None)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_never_end_a_scan(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    for copy in range(30):
        (file,) = replace(GOOD, slots=[0], prefix=f"{copy}-", series_uid=generate_uid()).write(tmp_path / "archive")
        data = bytearray(file.read_bytes())
        for place in random.integers(128, 1200, 6):
            data[place] = random.integers(256)
        file.write_bytes(data)
    scanned = scan_archive(tmp_path / "archive", tmp_path / "out")
    single = sum(row.slices for row in scanned.rows if not row.verdict.startswith("multi-frame"))
    assert single + len(scanned.skipped) == 30 == scanned.files
