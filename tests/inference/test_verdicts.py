"""Every folder of real data is denoised or refused as it should be: the expected verdict for each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
from inference.niftis import Nifti
from real_data import ARCHIVE, real, shared_folder

from iscl_monai.dicom.derivation import DISCLAIMER
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.errors import DicomRefusal, ImageRefusal, Refusal
from iscl_monai.inference.anything import denoise
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.plan import plan

GEOMETRY = "robust/robust_dicom2nifti_geometry"
PYDICOM = "robust/robust_pydicom"
SYNTAXES = "robust/robust_transfer_syntaxes"
PHILIPS = "qa/philips_phantom_mixed_folder"
COVID = "test/covid19_ny_sbu_6_patients"

HELICAL_CHEST = "1.2.840.113619.2.30.1.1762295590.1623.978668949.890"
BLOOD_FLOW = "1.3.6.1.4.1.5962.1.3.10.3.1166562673.14401"
DERIVED = "DERIVED, not an original series (name its UID with --series to denoise it all the same)"
INDEX = "DICOMDIR, an index of other files"
CAPTURE = "Secondary Capture Image Storage, not CT Image Storage"
REFORMATTED = "ImageType value 3 is REFORMATTED, not AXIAL"


@dataclass(frozen=True)
class Denoised:
    """Titles with slice counts in the order of the output, and how many files are skipped for which reason."""

    series: tuple[tuple[str, int], ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """The element that is named, or the kind of refusal that names none, and words of the line."""

    tag: str | type[Refusal]
    words: str


def one(title: str, count: int) -> Denoised:
    return Denoised(((title, count),))


NONE = "no description"
DECODED = one("HELICAL CHEST", 1)
VERDICTS: dict[str, Denoised | Refused] = {
    # --- qa: gantry tilt, uneven spacing; one series among scouts, captures and indices; no DICOM at all
    "qa/ge_head_tilt": one(NONE, 28),
    PHILIPS: Denoised((("STD BRAIN 5MM", 28),), {INDEX: 5, CAPTURE: 6, "localizer (scout)": 1}),
    f"{PHILIPS}/philips_mixed/S21570/S2010/I10": one("STD BRAIN 5MM", 1),
    f"{PHILIPS}/philips_mixed/S21570/S1000": Refused("SeriesInstanceUID", "localizer (scout)"),
    f"{PHILIPS}/philips_mixed/S21570/S1000/I10": Refused("SeriesInstanceUID", "localizer (scout)"),
    f"{PHILIPS}/philips_mixed/S21570/S4010": Refused("SeriesInstanceUID", "6 x Secondary Capture"),
    f"{PHILIPS}/philips_mixed/S21570/S4010/I60": Refused("SeriesInstanceUID", "Secondary Capture"),
    f"{PHILIPS}/philips_mixed/DICOMDIR": Refused("SeriesInstanceUID", "an index of other files"),
    "qa/fda_lcd_fbp": Refused("SeriesInstanceUID", "68 x not a DICOM file"),
    "qa/fda_lcd_fbp/fda_lcd_fbp/ground_truth.mhd": Refused(ImageRefusal, "convert it"),
    "qa/fda_lcd_fbp/fda_lcd_fbp/dose_100/signal_absent/signal_absent_001.raw": Refused(
        "SeriesInstanceUID", "1 x not a DICOM file"
    ),
    # --- geometry: slices are denoised one by one, so neither gaps nor four images at one place are a reason to refuse
    GEOMETRY: Denoised(((NONE, 4),) * 4),
    f"{GEOMETRY}/gantrytilting/001": one(NONE, 4),
    f"{GEOMETRY}/notavolume/001": one(NONE, 4),
    f"{GEOMETRY}/sliceincrement/001": one(NONE, 4),
    f"{GEOMETRY}/sliceincrement/002": one(NONE, 4),
    # --- odd headers: UIDs that are hashes, an unfinished sequence, VR UN; two frames of cerebral blood flow
    PYDICOM: Denoised(((NONE, 1), ("Pancreas", 1)), {DERIVED: 1}),
    f"{PYDICOM}/eCT_Supplemental.dcm": Refused("SeriesInstanceUID", DERIVED),
    f"{PYDICOM}/bad_sequence.dcm": one(NONE, 1),
    f"{PYDICOM}/explicit_VR-UN.dcm": one("Pancreas", 1),
    # --- transfer syntaxes: of the lossy ones only those that tell their units, and only when asked for
    SYNTAXES: Refused("TransferSyntaxUID", "JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm"),
    f"{SYNTAXES}/CT1_J2KR": Refused("SeriesInstanceUID", DERIVED),
    f"{SYNTAXES}/CT2_J2KR": Refused("SeriesInstanceUID", DERIVED),
    f"{SYNTAXES}/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm": Refused("SeriesInstanceUID", DERIVED),
    f"{SYNTAXES}/CTImage.dcm": DECODED,
    # --- test side: blanked UIDs, multi-valued kernel, JPEG 2000; single slices of GE and Toshiba; cropped images
    "test/totalsegmentator_abdomen": one("CT Body 3.0", 20),
    COVID: Denoised(
        (
            ("CHEST 2.5 MM/ABD.PEL 2.5MM", 1),
            ("CHEST 1.25 MM", 1),
            ("STANDARD 2.5MM", 1),
            ("STANDARD 2.5MM", 1),
            ("STANDARD 2.5MM", 1),
            ("Body 5.0", 1),
            ("5 MM STANDARD", 1),
            ("CHEST 5X5", 1),
            ("STANDARD 2.5mm", 1),
            ("CHEST 1.25 MM", 1),
            ("5 MM STANDARD", 1),
        ),
        {REFORMATTED: 23, "ImageType value 3 is MPR, not AXIAL": 2},
    ),
    f"{COVID}/A002304/coronal": Refused("SeriesInstanceUID", f"2 x {REFORMATTED}"),
    f"{COVID}/A072894/axial": Denoised((("5 MM STANDARD", 1),), {REFORMATTED: 1}),
    "test/sts_002_007_019/STS_019": one("IBSI_1_STS_019_CT_image", 47),
    # --- train side, small: ImageType and RescaleType absent; air and tissue lie where HU put them
    "train/lung_fcp_01_0001": one("Thorax  2.0  B31f", 22),
    # --- other scenes are no CT: electron microscopy, magnetic resonance
    "em/em": Refused("SeriesInstanceUID", "90 x not a DICOM file"),
    "em/em/em/formats/042_notsquare.tif": Refused("SeriesInstanceUID", "1 x not a DICOM file"),
    "em/em/em/formats/L4_ts_03_sort_bin8_1img.mrc": Refused("SeriesInstanceUID", "1 x not a DICOM file"),
    "mri/mri": Refused("SeriesInstanceUID", "24 x Modality MR (MR Image Storage), not CT, 17 x not a DICOM file"),
    "mri/mri/mri/t1w_dicom": Refused("SeriesInstanceUID", "24 x Modality MR (MR Image Storage), not CT"),
}
ASKED_FOR = {  # derived images, when their SeriesInstanceUID is asked for
    f"{SYNTAXES}/CT1_J2KR": ("1.3.6.1.4.1.5962.1.3.1.1.20040826185059.5457", one(NONE, 1)),
    f"{SYNTAXES}/CT2_J2KR": ("1.3.6.1.4.1.5962.1.3.2.1.20040826185059.5457", one(NONE, 1)),
    f"{SYNTAXES}/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm": (BLOOD_FLOW, Refused("PixelPresentation", "COLOR")),
    f"{PYDICOM}/eCT_Supplemental.dcm": (BLOOD_FLOW, Refused("PixelPresentation", "COLOR")),
}
SYNTAX_VERDICTS: dict[str, tuple[Denoised | Refused, Denoised | Refused]] = {
    # as it comes, and when its SeriesInstanceUID is asked for
    "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2": (DECODED, DECODED),
    "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99": (DECODED, DECODED),
    "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90": (DECODED, DECODED),
    "JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91": (Refused("SeriesInstanceUID", DERIVED), DECODED),
    "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80": (DECODED, DECODED),
    "JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81": (Refused("SeriesInstanceUID", DERIVED), DECODED),
    "JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55": (
        Refused("SeriesInstanceUID", DERIVED),
        Refused("TransferSyntaxUID", "one that can be decoded here"),
    ),
    "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70": (DECODED, DECODED),
    "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57": (DECODED, DECODED),
    "JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50": (
        Refused("SeriesInstanceUID", DERIVED),
        Refused("PixelData", "72 levels in steps of 32.1 HU"),
    ),
    "JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51": (  # no free library decodes its 12 bits
        Refused("SeriesInstanceUID", DERIVED),
        Refused("PixelData", "not decodable"),
    ),
    "JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53": (
        Refused("SeriesInstanceUID", DERIVED),
        Refused("TransferSyntaxUID", "one that can be decoded here"),
    ),
    "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1": (DECODED, DECODED),
    "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2": (DECODED, DECODED),
    "RLELosslessTransferSyntax_1.2.840.10008.1.2.5": (DECODED, DECODED),
}
LOSSLESS = [syntax for syntax, (as_it_comes, _) in SYNTAX_VERDICTS.items() if as_it_comes == DECODED]
EVEN_PATIENTS = {6: 68, 10: 59, 14: 65, 18: 55, 26: 52, 28: 68, 30: 73, 32: 54, 34: 55}
TRAINING_PATIENTS = dict(sorted({**EVEN_PATIENTS, 9: 83, 13: 114, 21: 83, 43: 70, 49: 92}.items()))
SINGLE_SLICES = (
    "Colo_supine  1.0  B30f", "= NONE =", "Venous Phase  5.0  B30f", NONE, NONE, "Chest #1", NONE, "Chest Routine #1",
    NONE, NONE, "PE protocol #1", "Chest Routine #1", "Abd/Pelvis #1", "Chest Routine #1", NONE, NONE, "PE-Fast #2",
    "PE-Fast #1", "Chest Routine", NONE, "CHEST ROUTINE  5.0  B20f", "CHEST ROUTINE  2.0  B20f",
    "CHEST ROUTINE  5.0  B20f", "Abd.CT 5.0 B30s", "Chest Routine 5.0 B20f", "Abd.CT 5.0 B30s",
    "Chest Routine 5.0 B20f", "CHEST ROUTINE  5.0  B20f", "Abd.CT 5.0 B30s", "Chest 5.0 B20s", "Chest 5.0 B20s",
    "Chest 2.0 B20s", "Abd.CT 5.0 B30s", "THINS FOR CORONAL", "INSPIRATION", "DYNAMIC MODE", "LUNG WINDOWS",
    "BOTTOM TO TOP", "DYNAMIC MODE", "LOCALIZATION", "PRONE INSPRATION", "CT SLICES", "PRE SCAN", "HELICAL MODE",
    "Recon 3: SUPER DIMENSION CHEST", "CT DELAY FUSION", "CT WB 5.0 B30s", *7 * ("HELICAL MODE",),
    "Chest  3.0  B20f", "Chest  3.0  B20f", "CHEST ROUTINE  3.0  B20f", "Abd s/c  3.0  B41s",
)  # fmt: skip
"""Of many scanners and patients; "LOCALIZATION" is the name of an axial series, not a scout."""
PLANNED: dict[str, Denoised] = {  # too large to be denoised here, or denoised above: the decision alone
    f"{PHILIPS}/philips_mixed/S21570/S2010": Denoised((("STD BRAIN 5MM", 28),), {INDEX: 1}),
    "train/4dlung_113": one("P4^P113^S303^I10349, Gated, 40.0%B", 99),
    "train/acrin_flt_breast_001": Denoised(tuple(("PET-CT SERIES", count) for count in (89, 21, 35))),
    "train/cmb_crc_01068": one("lung", 20),
    "train/cptac_pda_c3l_00189": one("LUNG BASES 5MM", 35),
    "train/lidc_idri_0001": one(NONE, 57),
    "train/lidc_idri_0314": Denoised(((NONE, 275),), {"not a DICOM file": 1}),
    "train/rider_pilot_0109": one(NONE, 48),
    "train/tcia_single_slices": Denoised(tuple((title, 1) for title in SINGLE_SLICES), {DERIVED: 1}),
    "train/sts_14_patients": Denoised(
        tuple((f"IBSI_1_STS_{patient:03d}_CT_image", count) for patient, count in TRAINING_PATIENTS.items())
    ),
    "test/sts_002_007_019": Denoised(
        tuple((f"IBSI_1_STS_{patient}_CT_image", count) for patient, count in (("002", 48), ("007", 70), ("019", 47)))
    ),
}


def place(name: str) -> Path:
    """A path within a folder or archive of the shared data."""
    top = "/".join(name.split("/")[:2])
    return real(top).joinpath(*name.split("/")[2:])


def syntax_file(syntax: str) -> Path:
    return real(SYNTAXES) / f"CTImage.dcm_{syntax}.dcm"


def digests(path: Path) -> dict[Path, str]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {file: sha256(file.read_bytes()).hexdigest() for file in files}


def plain(series: tuple[tuple[str, int], ...]) -> list[tuple[str, int]]:
    """Titles without what tells series of one description apart."""
    return [(re.sub(r"( \([^()]*\))?( no\. \d+)?$", "", title), count) for title, count in series]


def judge(path: Path, verdict: Denoised | Refused, denoiser: Denoiser, folder: Path, **options: str) -> list[Path]:
    """Denoise for real, compare with the verdict, and return the files that were made."""
    destination = folder / ("made.dcm" if path.is_file() else "made")
    before = digests(path)
    if isinstance(verdict, Refused):
        with pytest.raises(Refusal) as caught:
            denoise(path, destination, denoiser=denoiser, **options)
        assert list(folder.iterdir()) == []
        found = caught.value.tag if isinstance(caught.value, DicomRefusal) else type(caught.value)
        assert found == verdict.tag
        assert verdict.words in str(caught.value)
        assert "; do: " in str(caught.value)
    else:
        outcome = denoise(path, destination, denoiser=denoiser, **options)
        titles = [title for title, _ in outcome.series]
        assert len(set(titles)) == len(titles), "each can be told from the others"
        assert plain(outcome.series) == plain(verdict.series)
        assert Counter(skipped.reason for skipped in outcome.skipped) == verdict.skipped
        assert outcome.refused == ()
    assert digests(path) == before
    return sorted(folder.rglob("*.dcm"))


@pytest.mark.parametrize("name", VERDICTS)
def test_verdict(name: str, denoiser: Denoiser, tmp_path: Path) -> None:
    verdict = VERDICTS[name]
    made = judge(place(name), verdict, denoiser, tmp_path)
    if isinstance(verdict, Refused):
        assert made == []
        return
    assert len(made) == sum(count for _, count in verdict.series)
    for path in made:
        derived = pydicom.dcmread(path)
        assert derived.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert derived.ImageComments.startswith(DISCLAIMER)


@pytest.mark.parametrize("name", ASKED_FOR)
def test_verdict_on_a_derived_image_that_is_asked_for(name: str, denoiser: Denoiser, tmp_path: Path) -> None:
    series_uid, verdict = ASKED_FOR[name]
    judge(place(name), verdict, denoiser, tmp_path, series_uid=series_uid)


@pytest.mark.parametrize("syntax", SYNTAX_VERDICTS)
def test_verdict_on_a_transfer_syntax(syntax: str, denoiser: Denoiser, tmp_path: Path) -> None:
    as_it_comes, asked_for = SYNTAX_VERDICTS[syntax]
    for number, (verdict, options) in enumerate([(as_it_comes, {}), (asked_for, {"series_uid": HELICAL_CHEST})]):
        folder = tmp_path / str(number)
        folder.mkdir()
        judge(syntax_file(syntax), verdict, denoiser, folder, **options)


def test_lossless_syntaxes_give_the_result_of_the_uncompressed_file(denoiser: Denoiser, tmp_path: Path) -> None:
    with without_warnings():
        source = load_slice(read_header(real(SYNTAXES) / "CTImage.dcm"))[0].stored
        denoise(real(SYNTAXES) / "CTImage.dcm", tmp_path / "plain.dcm", denoiser=denoiser)
        plain = pydicom.dcmread(tmp_path / "plain.dcm")
        assert np.abs(plain.pixel_array.astype(int) - source).mean() > 1  # else equal results would say nothing
        for syntax in LOSSLESS:
            decoded = load_slice(read_header(syntax_file(syntax)))[0].stored
            np.testing.assert_array_equal(decoded, source, err_msg=syntax)
            denoise(syntax_file(syntax), tmp_path / f"{syntax}.dcm", denoiser=denoiser)
            derived = pydicom.dcmread(tmp_path / f"{syntax}.dcm")
            assert derived.PixelData == plain.PixelData, syntax
            assert derived.SOPInstanceUID == plain.SOPInstanceUID, syntax
            assert "LossyImageCompression" not in derived, syntax


def test_a_lossy_syntax_stays_lossy(denoiser: Denoiser, tmp_path: Path) -> None:
    path = syntax_file("JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91")
    denoise(path, tmp_path / "made.dcm", denoiser=denoiser, series_uid=HELICAL_CHEST)
    derived, source = pydicom.dcmread(tmp_path / "made.dcm"), pydicom.dcmread(path)
    assert derived.LossyImageCompression == source.LossyImageCompression == "01"
    assert derived.DerivationDescription.startswith(source.get("DerivationDescription", ""))
    assert "although RescaleType absent" in derived.DerivationDescription


@pytest.mark.parametrize("name", PLANNED)
def test_verdict_on_a_large_scan(name: str) -> None:
    with without_warnings():
        decided = plan(place(name))
    named = tuple((series.title.removesuffix(series.beside), series.count) for series in decided.series)
    assert named == PLANNED[name].series
    assert len({series.title for series in decided.series}) == len(decided.series), "each can be told from the others"
    assert Counter(skipped.reason for skipped in decided.skipped) == PLANNED[name].skipped


def test_verdict_on_nifti(denoiser: Denoiser, tmp_path: Path) -> None:
    """There is none of CT in the shared data: a file is denoised, in a folder it is no slice of a DICOM series."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "made").mkdir()
    Nifti().write(tmp_path / "folder" / "scan.nii")
    judge(tmp_path / "folder", Refused("SeriesInstanceUID", "1 x not a DICOM file"), denoiser, tmp_path / "made")
    outcome = denoise(tmp_path / "folder" / "scan.nii", tmp_path / "made" / "scan.nii", denoiser=denoiser)
    assert outcome.series == (("scan.nii", 3),)


def test_no_folder_is_without_a_verdict() -> None:
    real(PHILIPS)  # skips where there is no data
    named = {*VERDICTS, *PLANNED, *(f"{SYNTAXES}/{syntax_file(syntax).name}" for syntax in SYNTAX_VERDICTS)}
    shared = shared_folder()
    sides = [entry for entry in shared.iterdir() if entry.is_dir()]
    assert len(sides) >= 6
    for side in sides:
        for entry in side.iterdir():
            name = f"{side.name}/{entry.name.removesuffix(ARCHIVE)}"
            assert any(verdict.startswith(name) for verdict in named), name
    for folder in (PYDICOM, SYNTAXES):
        for entry in (shared / folder).iterdir():
            assert f"{folder}/{entry.name}" in named
