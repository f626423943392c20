"""The verdicts on all of the real data, each one looked at."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from data_prep.archive.measure import measure
from data_prep.archive.scan import Scanned, scan_archive
from data_prep.table import SeriesRow
from tests.real_data import real

FOLDERS = (
    "train/lidc_idri_0314",
    "train/4dlung_113",
    "train/sts_14_patients",
    "train/acrin_flt_breast_001",
    "train/cmb_crc_01068",
    "train/cptac_pda_c3l_00189",
    "train/lidc_idri_0001",
    "train/lung_fcp_01_0001",
    "train/rider_pilot_0109",
    "train/tcia_single_slices",
    "test/totalsegmentator_abdomen",
    "test/covid19_ny_sbu_6_patients",
    "test/sts_002_007_019",
    "qa/ge_head_tilt",
    "qa/philips_phantom_mixed_folder",
    "qa/fda_lcd_fbp",
    "robust/robust_transfer_syntaxes",
    "robust/robust_dicom2nifti_geometry",
    "robust/robust_pydicom",
    "em/em",
    "mri/mri",
)
GAP = "gap: 1 slice missing"

# folder, verdict, geometry, tilt, slices, step, thickness, kernel, kV, mAs, dose, body part, contrast, noise
EXPECTED = (
    ("lidc_idri_0314", "fit", "even", 0, 275, 1, 1, "D", 120, 300, "unknown", "CHEST", False, 22.7),
    ("4dlung_113", "fit", "even", 0, 99, 3, 3, "", None, None, "unknown", "LUNG", False, 21.3),
    ("totalsegmentator", "fit", "even", 0, 20, 2, 3, "Br38f\\3", 120, 202.9, "unknown", "PARTIALBODY", True, 10.4),
    ("ge_head_tilt", "uneven: slices 1.08 to 7 mm apart", "uneven", 18.5, 28, 4.002, None, "STD+", 120, 340, "unknown",
     "HEAD", False, 3.1),
    ("philips_phantom", "fit", "even", 0, 28, 5, 5, "UB", 120, 113.1, "unknown", "BRAIN", False, 2.3),
    ("gantrytilting", "no tissue: nothing above -300 HU in the slices looked at", "tilted", 14, 4, 4.851, None, "",
     None, None, "unknown", "", False, None),
    ("notavolume", "duplicates: 3 slices at the place of another (other images)", "duplicates", None, 4, 0, None, "",
     None, None, "unknown", "", False, None),
    ("sliceincrement/001", GAP, "gap", 0, 4, 5, None, "", None, None, "unknown", "", False, None),
    ("sliceincrement/002", GAP, "gap", 15.5, 4, 0.75, None, "", None, None, "unknown", "", False, None),
    ("abdomen_pelvis_80mA", "fit", "even", 0, 89, 4.25, 5, "SOFT", 140, 94.88, "unknown", "BREAST", False, 15.3),
    ("acrin_flt_breast_001/brain", "fit", "even", 0, 21, 4.25, 5, "SOFT", 140, 157.5, "unknown", "BREAST", False, 5.0),
    ("chest_150mA", "fit", "even", 0, 35, 4.25, 5, "SOFT", 140, 177.9, "unknown", "BREAST", False, 9.4),
    ("cmb_crc_01068", "fit", "even", 0, 20, 2.5, 2.5, "LUNG", 120, 60.8, "unknown", "CHEST ABDOMEN PELVIS", False,
     48.1),
    ("cptac_pda_c3l_00189", "fit", "even", 0, 35, 5, 5, "LUNG", 120, 303.7, "unknown", "PANCREAS", False, 34.1),
    ("lidc_idri_0001", "fit", "even", 0, 57, 2.5, 2.5, "STANDARD", 120, 228, "unknown", "CHEST", True, 14.5),
    ("lung_fcp_01_0001", "fit", "even", 0, 22, 1, 2, "B31f", 100, 122.9, "unknown", "TH CT CHEST WO C", False, 20.3),
    ("rider_pilot_0109", "fit", "even", 0, 48, 5, 5, "STANDARD", 120, 679, "unknown", "CHEST", True, 10.9),
)  # fmt: skip
SINGLE_SLICES = 59
# as above: slices, kernel, noise
STS = {
    "002": (48, "STANDARD", 38.2), "007": (70, "SOFT", 25.1), "019": (47, "SOFT", 11.1),
    "006": (68, "SOFT", 21.8), "009": (83, "STANDARD", 21.0), "010": (59, "STANDARD", 9.5),
    "013": (114, "SOFT", 10.5), "014": (65, "STANDARD", 23.5), "018": (55, "STANDARD", 23.6),
    "021": (83, "STANDARD", 26.3), "026": (52, "SOFT", 21.7), "028": (68, "STANDARD", 6.7),
    "030": (73, "STANDARD", 27.7), "032": (54, "SOFT", 10.6), "034": (55, "STANDARD", 21.4),
    "043": (70, "SOFT", 12.7), "049": (92, "STANDARD", 5.8),
}  # fmt: skip
SKIPPED = {
    ("em", "not a DICOM file"): 90,
    ("mri", "Modality MR (MR Image Storage), not CT"): 24,
    ("mri", "not a DICOM file"): 17,
    ("covid19_ny_sbu_6_patients", "ImageType value 3 is REFORMATTED, not AXIAL"): 23,
    ("covid19_ny_sbu_6_patients", "ImageType value 3 is MPR, not AXIAL"): 2,
    ("fda_lcd_fbp", "not a DICOM file"): 68,
    ("lidc_idri_0314", "not a DICOM file"): 1,
    ("robust_transfer_syntaxes", "the same image again as CTImage.dcm"): 6,
    ("philips_phantom_mixed_folder", "Secondary Capture Image Storage, not CT Image Storage"): 6,
    ("philips_phantom_mixed_folder", "DICOMDIR, an index of other files"): 5,
    ("philips_phantom_mixed_folder", "localizer (scout)"): 1,
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for name in FOLDERS:
        (folder / Path(name).name).symlink_to(real(name))
    return folder


@pytest.fixture(scope="module")
def scanned(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Scanned:
    return scan_archive(archive, tmp_path_factory.mktemp("scanned"))


def rows_of(scanned: Scanned, part: str) -> list[SeriesRow]:
    return [row for row in scanned.rows if part in row.path]


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected[0])
def test_verdict(scanned: Scanned, expected: tuple[object, ...]) -> None:
    (row,) = rows_of(scanned, str(expected[0]))
    words = (row.verdict, row.geometry, row.kernel, row.dose_class, row.body_part, row.contrast)
    assert words == (*expected[1:3], expected[7], *expected[10:13])
    numbers = (row.tilt_deg, row.slices, row.slice_step_mm, row.slice_thickness_mm, row.kvp, row.mas)
    for found, wanted in zip((*numbers, row.noise_hu), (*expected[3:7], *expected[8:10], expected[13]), strict=True):
        assert found == (None if wanted is None else pytest.approx(wanted, rel=1e-3, abs=0.06))


def test_iterative_reconstructions_are_named(scanned: Scanned) -> None:
    named = Counter(row.reconstruction for row in scanned.rows)
    assert named.pop("") > 80
    assert named == {"ASiR 30": 9, "ASiR 50": 1, "ASiR-V 30": 1, "AIDR 3D std": 1, "SAFIRE or ADMIRE 3": 1}


@pytest.mark.parametrize("patient", STS)
def test_sts(scanned: Scanned, patient: str) -> None:
    (row,) = rows_of(scanned, f"STS_{patient}/")
    assert (row.verdict, row.geometry, row.slices, row.kernel) == ("fit", "even", *STS[patient][:2])
    assert (row.kvp, row.slice_step_mm, row.slice_thickness_mm, row.body_part) == (140, 3.27, 3.27, "EXTREMITY")
    assert row.noise_hu == pytest.approx(STS[patient][2], abs=0.06)
    assert row.mas in (60.9, 69.6, 78.3)


def test_covid_single_slices(scanned: Scanned) -> None:
    rows = rows_of(scanned, "covid19")
    assert [(row.verdict, row.geometry, row.slices) for row in rows] == [("fit", "single slice", 1)] * 11
    assert Counter(row.patient for row in rows).most_common()[-1][1] == 1
    assert Counter(row.dose_class for row in rows) == {"unknown": 9, "low": 2}
    # "... NON CONTRAST LOW DOSE" in the protocol's name, and a chest of 2.8 mGy
    assert sorted(row.mas for row in rows if row.dose_class == "low") == [43.05, 101.5]


def test_single_slices_of_many_scanners(scanned: Scanned) -> None:
    rows = rows_of(scanned, "tcia_single_slices")
    assert Counter(row.verdict for row in rows) == {"fit": SINGLE_SLICES}  # one by its values
    assert len({row.patient for row in rows}) == 45
    kernels = {row.kernel for row in rows}
    assert kernels > {"B20f", "B30f", "B31s", "B41s", "B60f", "STANDARD", "SOFT", "LUNG", "BONE", "59 .10.AB50"}
    noise = [row.noise_hu for row in rows if row.noise_hu is not None]
    assert (min(noise), max(noise)) == (pytest.approx(6.7, abs=0.06), pytest.approx(66.1, abs=0.06))


def test_transfer_syntaxes(scanned: Scanned) -> None:
    rows = rows_of(scanned, "robust_transfer_syntaxes")
    assert sorted((row.verdict, row.geometry, row.slices) for row in rows) == [
        ("duplicates: 9 slices at the place of another (3 with the UID of another)", "duplicates", 10),
        ("fit", "single slice", 1),  # derived, and proved by their values
        ("fit", "single slice", 1),
    ]


def test_each_transfer_syntax(archive: Path) -> None:
    files = [path for path in sorted((archive / "robust_transfer_syntaxes").iterdir()) if "CTImage" in path.name]
    problems = {path.name: measure([(path, path)]).problem for path in files}
    assert Counter(problems.values()) == {
        "": 12,
        "values that are no HU: 72 levels in steps of 32.1 HU, an 8-bit picture": 1,
        "pixels cannot be decoded (JPEG Extended (Process 2 and 4))": 1,
        "pixels cannot be decoded (JPEG Full Progression, Non-Hierarchical (Process 10 and 12))": 1,
        "pixels cannot be decoded (JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8))": 1,
    }


def test_pydicom(scanned: Scanned) -> None:
    rows = [row for row in rows_of(scanned, "robust_pydicom") if row.slices == 1]
    assert sorted((row.verdict, row.kernel, row.body_part, row.noise_hu) for row in rows) == [
        ("fit", "", "PANCREAS", pytest.approx(12.5, abs=0.1)),
        ("fit", "B30s", "NECK", pytest.approx(8.1, abs=0.1)),
    ]
    (multiframe,) = [row for row in scanned.rows if row.verdict.startswith("multi-frame")]
    assert (multiframe.verdict, multiframe.slices) == ("multi-frame (Enhanced) CT: not supported for training", 4)


def test_spectra_tell_sharp_kernels_from_soft_ones(scanned: Scanned) -> None:
    peaks = {name: rows_of(scanned, name)[0].noise_peak_per_mm for name in ("lidc_idri_0314", "4dlung", "totalseg")}
    assert peaks == {
        "lidc_idri_0314": pytest.approx(0.335, abs=0.02),
        "4dlung": pytest.approx(0.159, abs=0.02),
        "totalseg": pytest.approx(0.136, abs=0.02),
    }


def test_everything_is_listed_once(scanned: Scanned, archive: Path) -> None:
    files = [os.path.join(folder, name) for folder, _, names in os.walk(archive, followlinks=True) for name in names]
    assert scanned.files == len(files)
    assert len(scanned.rows) == len(EXPECTED) + len(STS) + SINGLE_SLICES + 11 + 3 + 2 + 1
    found = Counter((Path(path).relative_to(archive).parts[0], reason) for path, reason in scanned.skipped)
    assert found == SKIPPED
    slices = sum(row.slices for row in scanned.rows if not row.verdict.startswith("multi-frame"))
    assert slices + 2 + len(scanned.skipped) == len(files)  # the two multi-frame files hold 4 frames


def test_patients_are_told_apart_without_their_ids(scanned: Scanned) -> None:
    text = b"".join(path.read_bytes() for path in scanned.written if path.suffix in (".csv", ".parquet"))
    for patient_id in (b"113_HM10395", b"PLASTIC", b"LIDC-IDRI-0314\x00", b"QMNx85rKkkg", b"PANCREAS_0001"):
        assert patient_id not in text
    assert {row.patient for row in rows_of(scanned, "totalseg")} == {""}
    assert len({row.patient for row in rows_of(scanned, "sts_")}) == len(STS)
    with next(path for path in scanned.written if path.name == "skipped.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(scanned.skipped)
