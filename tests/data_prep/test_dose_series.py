from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from dicom.synthetic import Change, Series
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian
from real_data import real

from data_prep.__main__ import main
from data_prep.dose import series as module
from data_prep.dose.series import Simulated, simulate_series
from data_prep.dose.simulation import Acceptance
from iscl_monai.dicom.derive import moment_of
from iscl_monai.dicom.series import CTSeries, read_series
from iscl_monai.dicom.write import SeriesWriter
from iscl_monai.durable import resumable_folder
from iscl_monai.errors import ConfigRefusal, DicomRefusal, OutputRefusal, Refusal
from iscl_monai.scanner import selfcheck
from iscl_monai.scanner.texture import local_mean_and_sigma, mode, soft_tissue

SIZE, SPACING_MM = 64, 4.0
AXIS = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM
RADIUS_MM = np.hypot(AXIS, AXIS[:, None])
OUTSIDE = RADIUS_MM > 124
MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
SIGNED: dict[str, Any] = {"PixelRepresentation": 1, "RescaleIntercept": 0, "PixelPaddingValue": -2000}
# The padding value is the stored value of -1024 HU, which noise in air reaches easily.
UNSIGNED: dict[str, Any] = {
    "PixelRepresentation": 0,
    "RescaleIntercept": -1024,
    "PixelPaddingValue": 0,
    "BitsStored": 12,
    "HighBit": 11,
}


def body_hu(index: int) -> NDArray[np.float64]:
    """Water with 8 HU of noise in air, a little larger in every slice."""
    noise = np.random.default_rng(index).normal(0, 8, RADIUS_MM.shape)
    return np.where(80 + index > RADIUS_MM, 30 + noise, -1000 + 0.2 * noise)


def painting(form: dict[str, Any], **elements: Any) -> Change:
    """Paint the body into a slice, padding outside of the circle, and set some elements."""

    def change(dataset: FileDataset, index: int) -> None:
        dataset.SOPInstanceUID = f"1.2.840.{index + 1}"  # it decides the noise: no chance in the tests
        for keyword, value in {**form, **elements}.items():
            setattr(dataset, keyword, value)
        stored = np.rint(body_hu(index) - dataset.RescaleIntercept)
        stored[OUTSIDE] = dataset.PixelPaddingValue
        kind = "<i2" if dataset.PixelRepresentation else "<u2"
        dataset.PixelData = stored.astype(kind).tobytes()
        dataset.SliceLocation = dataset.ImagePositionPatient[2]
        dataset.private_block(0x0009, "SECRET", create=True).add_new(1, "LO", "private")

    return change


def source(folder: Path, form: dict[str, Any] = SIGNED, *, slices: int = 6, **options: Any) -> Path:
    elements = options.pop("elements", {})
    series = {
        "slots": range(slices),
        "rows": SIZE,
        "columns": SIZE,
        "pixel_spacing_mm": (SPACING_MM, SPACING_MM),
        "spacing_mm": 1.0,
        "order": list(range(slices))[::-1],
        "series_uid": "1.2.3.4",
        "change": painting(form, **elements),
        **options,
    }
    Series(**series).write(folder)
    return folder


def read(folder: Path) -> CTSeries:
    return read_series(folder, geometry="slices")


def simulate(scan: Path, destination: Path, **options: Any) -> Path:
    """The folder of the series that was made."""
    made = simulate_series(scan, destination, **options)
    assert isinstance(made, Simulated)
    assert made.folder == destination
    assert made.slices == len(list(destination.iterdir()))
    return made.folder


def noise_hu(volume: NDArray[np.float32], tissue: NDArray[np.float32]) -> float:
    """How strong noise is in most of the soft tissue."""
    places = [soft_tissue(local_mean_and_sigma(plane)[0]) for plane in tissue]
    sigmas = [local_mean_and_sigma(plane)[1] for plane in volume]
    return mode(np.concatenate([sigma[place] for sigma, place in zip(sigmas, places, strict=True)]))


def headers(folder: Path) -> list[FileDataset]:
    return [pydicom.dcmread(file) for file in read(folder).files]


@pytest.mark.parametrize("form", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
@pytest.mark.parametrize("rle", [False, True], ids=["plain", "compressed"])
def test_slices_stay_where_they_are_and_get_noise(tmp_path: Path, form: dict[str, Any], rle: bool) -> None:
    scan = read(source(tmp_path / "scan", form, rle=rle))
    low = read(simulate(tmp_path / "scan", tmp_path / "low", fraction=0.25))
    assert low.positions_mm == scan.positions_mm
    np.testing.assert_array_equal(low.affine_lps, scan.affine_lps)
    assert low.pixel_spacing_mm == scan.pixel_spacing_mm
    added_hu = low.hu - scan.hu
    # White noise is no scan's, and the slices are few: how well the strength is met is told in test_dose.
    assert noise_hu(added_hu, scan.hu) == pytest.approx(noise_hu(scan.hu, scan.hu) * np.sqrt(3), rel=0.15)
    assert abs(added_hu[soft_tissue(scan.hu)].mean()) < 1
    # The slices are not mixed up: the noise hides much less than the difference between slices.
    assert np.corrcoef(low.hu[0].ravel(), scan.hu[0].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("form", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
def test_padding_is_kept_and_nothing_becomes_padding(tmp_path: Path, form: dict[str, Any]) -> None:
    source(tmp_path / "scan", form)
    simulate(tmp_path / "scan", tmp_path / "low", fraction=0.02)
    for dataset in headers(tmp_path / "low"):
        padded = dataset.pixel_array == form["PixelPaddingValue"]
        np.testing.assert_array_equal(padded, OUTSIDE)
        assert dataset.PixelPaddingValue == form["PixelPaddingValue"]


def test_stored_values_keep_within_their_bits(tmp_path: Path) -> None:
    source(tmp_path / "scan", UNSIGNED, slices=2)
    simulate(tmp_path / "scan", tmp_path / "low", fraction=0.0001)
    for dataset in headers(tmp_path / "low"):
        assert dataset.pixel_array.max() <= 4095
        assert (dataset.pixel_array[~OUTSIDE] == 1).any()  # much was below what can be stored


def test_headers_say_simulated(tmp_path: Path) -> None:
    elements = {"SeriesDescription": "Thorax " * 9 + "!", "SmallestImagePixelValue": 3}
    originals = headers(source(tmp_path / "scan", elements=elements))
    copies = headers(simulate(tmp_path / "scan", tmp_path / "low", fraction=0.1, seed=4))
    for original, dataset in zip(originals, copies, strict=True):
        assert list(dataset.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "SIMULATED"]
        assert dataset.SeriesDescription.endswith(" | SIMULATED 0.1 DOSE")
        assert dataset.SeriesDescription.startswith("Thorax ")
        assert len(dataset.SeriesDescription) <= 64
        assert "SIMULATED" in dataset.DerivationDescription
        assert "0.1" in dataset.DerivationDescription
        assert "Not for diagnosis" in dataset.DerivationDescription
        assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
        assert not [element for element in dataset if element.tag.is_private]
        assert "SmallestImagePixelValue" not in dataset
        for kept in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "InstanceNumber", "KVP"):
            assert dataset[kept].value == original[kept].value
        for kept in ("ImagePositionPatient", "RescaleIntercept", "BitsStored", "PixelRepresentation"):
            assert dataset[kept].value == original[kept].value
    fresh = {dataset.SOPInstanceUID for dataset in copies}
    assert len(fresh) == len(copies)
    assert not fresh & {original.SOPInstanceUID for original in originals}
    assert len({dataset.SeriesInstanceUID for dataset in copies}) == 1
    assert copies[0].SeriesInstanceUID != originals[0].SeriesInstanceUID


def bytes_of(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def test_same_request_same_files(tmp_path: Path) -> None:
    source(tmp_path / "scan")

    def files(name: str, **options: Any) -> list[bytes]:
        return bytes_of(simulate(tmp_path / "scan", tmp_path / name, **{"fraction": 0.25, "moment": MOMENT, **options}))

    first = files("a")
    assert files("b") == first
    uids = {read(tmp_path / "a").series_uid}
    for number, options in enumerate(({"seed": 1}, {"fraction": 0.2}, {"z_range_mm": (0.0, 200.0)})):
        files(f"other{number}", **options)
        uids.add(read(tmp_path / f"other{number}").series_uid)
    assert len(uids) == 4


def test_two_runs_differ_in_their_dates_alone(tmp_path: Path) -> None:
    source(tmp_path / "scan")
    first = headers(simulate(tmp_path / "scan", tmp_path / "a", fraction=0.25, moment=MOMENT))
    before = datetime.now().astimezone().replace(microsecond=0)
    later = headers(simulate(tmp_path / "scan", tmp_path / "b", fraction=0.25))
    assert before <= moment_of(later[0]) <= datetime.now().astimezone()
    assert {moment_of(dataset) for dataset in later} == {moment_of(later[0])}  # one series has one time
    for one, other in zip(first, later, strict=True):
        assert moment_of(one) == MOMENT
        equipment = [dataset.ContributingEquipmentSequence[-1] for dataset in (one, other)]
        assert {element.keyword for element in one if other[element.tag] != element} == {
            *(f"{name}{part}" for name in ("Series", "Content", "InstanceCreation") for part in ("Date", "Time")),
            "ContributingEquipmentSequence",
        }
        differing = {element.keyword for element in equipment[0] if equipment[1][element.tag] != element}
        assert differing == {"ContributionDateTime"}


def test_neighbours_are_averaged(tmp_path: Path) -> None:
    scan = read(source(tmp_path / "scan", slices=8))
    clean = read(simulate(tmp_path / "scan", tmp_path / "clean", fraction=1, average=3))
    inside = ~OUTSIDE
    expected = [scan.hu[0:3].mean(axis=0), scan.hu[3:6].mean(axis=0)]  # the last two are left out
    np.testing.assert_allclose(clean.hu[:, inside], np.array(expected)[:, inside], atol=0.51)
    assert clean.positions_mm == pytest.approx([scan.positions_mm[1], scan.positions_mm[4]])
    assert clean.slice_thickness_mm == pytest.approx(3)
    assert clean.padded is not None
    np.testing.assert_array_equal(clean.padded, np.stack([OUTSIDE] * 2))
    pairs = read(simulate(tmp_path / "scan", tmp_path / "pairs", fraction=1, average=2))
    assert pairs.positions_mm[0] == pytest.approx(scan.positions_mm[0] + 0.5)  # between two slices
    dataset = headers(tmp_path / "clean")[0]
    assert len(dataset.SourceImageSequence) == 3
    assert "SIMULATED" not in str(dataset.ImageType) + dataset.SeriesDescription
    low = read(simulate(tmp_path / "scan", tmp_path / "low", fraction=0.25, average=3))
    expected_hu = noise_hu(clean.hu, clean.hu) * np.sqrt(3)
    assert noise_hu(low.hu - clean.hu, clean.hu) == pytest.approx(expected_hu, rel=0.15)  # two slices
    assert low.positions_mm == clean.positions_mm


def test_a_pixel_padded_in_one_neighbour_is_padding_in_the_average(tmp_path: Path) -> None:
    def change(dataset: FileDataset, index: int) -> None:
        painting(SIGNED)(dataset, index)
        if index == 0:
            stored = np.frombuffer(dataset.PixelData, "<i2").reshape(SIZE, SIZE).copy()
            stored[30:34, 30:34] = -2000
            dataset.PixelData = stored.tobytes()

    source(tmp_path / "scan", slices=3, change=change)
    stored = headers(simulate(tmp_path / "scan", tmp_path / "low", fraction=0.5, average=3))[0].pixel_array
    assert (stored[30:34, 30:34] == -2000).all()
    assert stored[34, 34] > -1000


def test_z_range_keeps_slices_inside_it(tmp_path: Path) -> None:
    scan = read(source(tmp_path / "scan"))
    low_mm, high_mm = scan.positions_mm[1], scan.positions_mm[3]
    low = read(simulate(tmp_path / "scan", tmp_path / "low", fraction=0.5, z_range_mm=(low_mm, high_mm)))
    assert low.positions_mm == scan.positions_mm[1:4]


def test_slices_that_share_one_uid_get_different_noise(tmp_path: Path) -> None:
    scan = read(source(tmp_path / "scan", slices=2, elements={"SOPInstanceUID": "1.2.3"}))
    folder = simulate(tmp_path / "scan", tmp_path / "low", fraction=0.5)
    one, other = (read(folder).hu - scan.hu)[:, ~OUTSIDE]
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.2
    assert len({dataset.SOPInstanceUID for dataset in headers(folder)}) == 2


@pytest.mark.parametrize(
    ("build", "request_", "refusal"),
    [
        ({}, {"fraction": 0.0}, ConfigRefusal),
        ({}, {"average": 0}, ConfigRefusal),
        ({}, {"average": 9}, ConfigRefusal),
        ({}, {"z_range_mm": (5000.0, 6000.0)}, ConfigRefusal),
        ({}, {"series_uid": "9.9"}, DicomRefusal),
        ({"pixel_spacing_mm": (4.0, 3.0)}, {}, DicomRefusal),
        ({"slots": [0, 1, 2, 4, 5, 9]}, {"average": 3}, DicomRefusal),
        ({"step": (0.0, 1.2, 1.0)}, {"average": 3}, DicomRefusal),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, build: dict[str, Any], request_: dict[str, Any], refusal: type[Refusal]
) -> None:
    source(tmp_path / "scan", **build)
    with pytest.raises(refusal):
        simulate(tmp_path / "scan", tmp_path / "low", **{"fraction": 0.5, **request_})
    assert [item.name for item in tmp_path.iterdir()] == ["scan"]


def test_an_existing_destination_is_refused(tmp_path: Path) -> None:
    source(tmp_path / "scan")
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "mine.txt").touch()
    with pytest.raises(OutputRefusal, match="exists"):
        simulate(tmp_path / "scan", tmp_path / "low", fraction=0.5)


def test_killed_and_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    source(tmp_path / "scan", slices=40)
    words = [str(tmp_path / "scan"), str(tmp_path / "low"), "--fraction", "0.25", "--workers", "1"]
    run = subprocess.Popen([sys.executable, "-m", "data_prep", "dose", *words])
    while len(list(tmp_path.glob(".low.*/*.dcm"))) < 3:
        with suppress(subprocess.TimeoutExpired):  # asking without a pause would take a core from it
            run.wait(0.01)
        assert run.poll() is None, "it ended before it could be killed"
    run.kill()
    run.wait()
    (left,) = tmp_path.glob(".low.*")
    (left / "00001.dcm").with_suffix(".dcm.partial").touch()
    kept = {file.name: file.stat().st_mtime_ns for file in left.glob("*.dcm")}
    assert 3 <= len(kept) < 40
    begun = moment_of(pydicom.dcmread(left / "00001.dcm"))
    again = simulate(tmp_path / "scan", tmp_path / "low", fraction=0.25, workers=2)
    whole = simulate(tmp_path / "scan", tmp_path / "whole" / "low", fraction=0.25, workers=1, moment=begun)
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }
    assert {name: (again / name).stat().st_mtime_ns for name in kept} == kept  # not made again
    assert sorted(item.name for item in tmp_path.iterdir()) == ["low", "scan", "whole"]


def interrupt_late(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Stop the run when so many slices have been made."""
    original, made = module.SeriesWriter.derive, []

    def derive(self: SeriesWriter, *arguments: Any) -> Dataset:
        if len(made) == after:
            raise KeyboardInterrupt
        made.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(module.SeriesWriter, "derive", derive)


def test_an_interrupted_run_is_resumed_with_the_moment_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(tmp_path / "scan")
    monkeypatch.setattr(module, "_now", lambda: MOMENT)
    interrupt_late(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "scan", tmp_path / "low", fraction=0.5, workers=1)
    monkeypatch.undo()
    resumed = simulate(tmp_path / "scan", tmp_path / "low", fraction=0.5)
    assert {moment_of(dataset) for dataset in headers(resumed)} == {MOMENT}
    whole = simulate(tmp_path / "scan", tmp_path / "whole", fraction=0.5, moment=MOMENT)
    assert bytes_of(resumed) == bytes_of(whole)


def test_slices_with_another_header_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = source(tmp_path / "scan")
    interrupt_late(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        simulate(scan, tmp_path / "low", fraction=0.5, workers=1)
    monkeypatch.undo()
    for path in scan.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "another"
        dataset.save_as(path)
    made = simulate(scan, tmp_path / "low", fraction=0.5)
    assert {dataset.PatientID for dataset in headers(made)} == {"another"}


def test_slices_of_another_moment_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source(tmp_path / "scan")
    interrupt_late(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "scan", tmp_path / "low", fraction=0.5, workers=1)
    monkeypatch.undo()
    made = simulate(tmp_path / "scan", tmp_path / "low", fraction=0.5, moment=MOMENT)
    assert {moment_of(dataset) for dataset in headers(made)} == {MOMENT}
    assert sorted(item.name for item in tmp_path.iterdir()) == ["low", "scan"]


def test_slices_with_more_tube_current_get_less_noise(tmp_path: Path) -> None:
    def change(dataset: FileDataset, index: int) -> None:
        painting(SIGNED)(dataset, 0)
        dataset.XRayTubeCurrent = 400 if index % 2 else 100

    scan = read(source(tmp_path / "scan", slices=8, change=change))
    low = read(simulate(tmp_path / "scan", tmp_path / "low", fraction=0.25))
    strong, weak = ((low.hu - scan.hu)[start::2][:, RADIUS_MM < 60].std() for start in (1, 0))
    assert weak / strong == pytest.approx(2, rel=0.1)

    def silent(dataset: FileDataset, index: int) -> None:
        change(dataset, index)
        if index == 3:
            del dataset.XRayTubeCurrent

    scan = read(source(tmp_path / "other", slices=8, change=silent))
    low = read(simulate(tmp_path / "other", tmp_path / "low2", fraction=0.25))
    first, second = ((low.hu - scan.hu)[start::2][:, RADIUS_MM < 60].std() for start in (1, 0))
    assert first / second == pytest.approx(1, rel=0.1)


def test_what_another_request_left_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source(tmp_path / "scan")
    interrupt_late(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "scan", tmp_path / "low", fraction=0.5, workers=1)
    assert len(list(tmp_path.glob(".low.*/*.dcm"))) >= 2
    monkeypatch.undo()
    first = simulate(tmp_path / "scan", tmp_path / "low", fraction=0.25, moment=MOMENT)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["low", "scan"]
    other = simulate(tmp_path / "scan", tmp_path / "other", fraction=0.25, moment=MOMENT)
    assert bytes_of(first) == bytes_of(other)


def test_two_runs_at_one_place_are_refused(tmp_path: Path) -> None:
    with (
        resumable_folder(tmp_path / "low", "abc"),
        pytest.raises(OutputRefusal, match="low"),
        resumable_folder(tmp_path / "low", "abc"),
    ):
        pass  # pragma: no cover


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = read(source(tmp_path / "scan"))
    words = [
        str(tmp_path / "scan"),
        str(tmp_path / "low"),
        "--fraction",
        "0.5",
        "--average",
        "2",
        "--seed",
        "3",
    ]
    limits = [str(scan.positions_mm[0]), str(scan.positions_mm[3])]
    assert main(["dose", *words, "--z-range", *limits]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "low")
    assert len(read(tmp_path / "low").files) == 2
    assert main(["dose", *words]) == 2  # it exists
    error = capsys.readouterr().err.strip()
    assert "exists" in error
    assert "\n" not in error


def test_iterative_sources_are_refused_or_accepted_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elements = {"Manufacturer": "SIEMENS", "ConvolutionKernel": ["I30f", "3"]}
    scan = source(tmp_path / "scan", elements=elements)
    words = ["dose", str(scan), str(tmp_path / "low"), "--fraction", "0.5"]
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert "SAFIRE 3" in error
    assert "--accept-iterative" in error
    assert "\n" not in error
    assert not (tmp_path / "low").exists()
    assert main([*words, "--accept-iterative", "--accept-calibration"]) == 0
    warning = "linear noise in an iterative reconstruction (SAFIRE 3)"
    assert f"WARNING: {warning}" in capsys.readouterr().err
    assert f"WARNING: {warning}." in pydicom.dcmread(tmp_path / "low" / "00001.dcm").DerivationDescription
    # Nothing is added to an average.
    assert main(["dose", str(scan), str(tmp_path / "mean"), "--fraction", "1", "--average", "2"]) == 0
    assert main(["dose", str(scan), str(tmp_path / "low.nii"), "--fraction", "0.5"]) == 2


def test_a_calibration_that_does_not_explain_the_scan_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selfcheck, "LIMITS", (2.0, 3.0))
    scan = source(tmp_path / "scan")
    words = ["dose", str(scan), str(tmp_path / "low"), "--fraction", "0.5"]
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert "times the scan's" in error
    assert "--accept-calibration" in error
    assert "\n" not in error
    assert main([*words, "--accept-calibration"]) == 0
    assert "WARNING: calibration accepted although its own noise is" in capsys.readouterr().err
    description = pydicom.dcmread(tmp_path / "low" / "00001.dcm").DerivationDescription
    assert "WARNING: calibration accepted although its own noise is" in description
    # A NIfTI file has 79 characters.
    assert main(["dose", str(scan), str(tmp_path / "low.nii"), "--fraction", "0.5", "--accept-calibration"]) == 0
    assert "Doubtful noise" in str(nibabel.load(tmp_path / "low.nii").header["descrip"])


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dose", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert "--fraction 0.1" in text


def test_real_tilted_head(tmp_path: Path) -> None:
    scan = read(real("qa/ge_head_tilt"))
    limits = (scan.positions_mm[12], scan.positions_mm[13])
    folder = simulate(real("qa/ge_head_tilt"), tmp_path / "low", fraction=0.25, z_range_mm=limits)
    low, kept_hu = read(folder), scan.hu[12:14]
    assert low.positions_mm == scan.positions_mm[12:14]
    assert scan.padded is not None
    assert low.padded is not None
    np.testing.assert_array_equal(low.padded, scan.padded[12:14])
    added_hu = low.hu - kept_hu
    assert noise_hu(added_hu, kept_hu) == pytest.approx(noise_hu(kept_hu, kept_hu) * np.sqrt(3), rel=0.1)
    assert abs(added_hu[soft_tissue(kept_hu)].mean()) < 0.1


def test_real_series_without_uids(tmp_path: Path) -> None:
    scan = read(real("test/totalsegmentator_abdomen"))
    limits = (scan.positions_mm[4], scan.positions_mm[5])
    accepted = Acceptance(calibration=True, iterative=True)
    folder = simulate(
        real("test/totalsegmentator_abdomen"), tmp_path / "low", fraction=0.25, z_range_mm=limits, accepted=accepted
    )
    assert all(
        "an iterative reconstruction (SAFIRE or ADMIRE 3)" in one.DerivationDescription for one in headers(folder)
    )
    assert len({dataset.SOPInstanceUID for dataset in headers(folder)}) == 2
    assert read(folder).positions_mm == scan.positions_mm[4:6]
