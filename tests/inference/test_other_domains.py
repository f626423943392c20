"""Micrographs and MR magnitude through ``denoise --modality``; weights of one domain never meet another's images."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import mrcfile
import nibabel as nib
import numpy as np
import pydicom
import pytest
import tifffile
from inference.tiny import WINDOWS, make_bundle, tiny_network
from PIL import Image
from real_data import real
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner, Result

from iscl_monai.cli import app
from iscl_monai.domain import DOMAINS
from iscl_monai.domain.mr import PER_WINDOW, window_of
from iscl_monai.errors import CheckpointRefusal, ConfigRefusal, DicomRefusal, ImageRefusal
from iscl_monai.inference import Denoiser, ModelIdentity, TrainingRecord
from iscl_monai.inference.magnitudes import denoise_magnitude
from iscl_monai.inference.micrographs import denoise_micrographs
from iscl_monai.magnitude import read_magnitude
from iscl_monai.micrograph import write as writing
from iscl_monai.networks import DenoisingNetwork
from iscl_monai.networks.description import DOMAINS as NAMES
from iscl_monai.quality.appearance import appearance_of
from iscl_monai.quality.dark import dark_character
from iscl_monai.quality.familiarity import ranges_of

IDENTITY = ModelIdentity("ISCL", "0", "0" * 64)
OTHERS = ("micrograph", "mr")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make_bundle(tmp_path_factory.mktemp(name), domain=name) for name in NAMES}


def denoiser_for(domain: str, strength: float = 1.0) -> Denoiser:
    return Denoiser(tiny_network(domain=domain), identity=IDENTITY, device="cpu", strength=strength)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["denoise", *map(str, arguments)])


def sections(dtype: str = "u1", count: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    ramp = np.linspace(limits.min, limits.max / 4, 70)
    return (ramp + rng.normal(0, limits.max / 40, (count, 60, 70))).clip(limits.min, limits.max).astype(dtype)


# --- which weights --------------------------------------------------------------------------------------


def test_weights_and_domains_have_the_same_names() -> None:
    assert tuple(DOMAINS) == NAMES == tuple(WINDOWS)
    for name, domain in DOMAINS.items():
        assert domain.name == name


@pytest.mark.parametrize("own", NAMES)
def test_weights_are_loaded_for_their_domain_alone(own: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    for other in NAMES:
        if other == own:
            assert Denoiser.from_bundle(bundles[own], device="cpu", domain=own).hu_window == WINDOWS[own]
            continue
        with pytest.raises(CheckpointRefusal, match=f"domain '{own}'; allowed: weights for '{other}'"):
            Denoiser.from_bundle(bundles[own], device="cpu", domain=other)
        with pytest.raises(CheckpointRefusal, match=f"domain '{own}'"):
            tiny_network(domain=other).load_state_dict(tiny_network(domain=own).state_dict())


@pytest.mark.parametrize("other", OTHERS)
def test_all_that_is_for_ct_refuses_other_weights(other: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    weights = bundles[other] / "models" / "model.pt"
    for load in (
        lambda: DenoisingNetwork.from_file(weights),
        lambda: Denoiser.from_bundle(bundles[other], device="cpu"),
    ):
        with pytest.raises(CheckpointRefusal, match=f"domain '{other}'"):
            load()
    for words in (
        ["export", bundles[other], tmp_path / "m.onnx"],
        ["qa", bundles[other], "--out", tmp_path / "qa", "--quick"],
    ):
        result = CliRunner().invoke(app, [*map(str, words)])
        assert result.exit_code == 2
        assert f"domain '{other}'" in result.stderr


# --- micrographs -------------------------------------------------------------------------------------------


def test_a_folder_of_tiff_becomes_one(bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    stored = sections()
    for number, image in enumerate(stored):
        tifffile.imwrite(tmp_path / "in" / f"z{number}.tif", image)
    (tmp_path / "in" / "cell.bmp").write_bytes(b"BM")
    (tmp_path / "in" / "more").mkdir()
    result = run(
        tmp_path / "in",
        tmp_path / "out",
        "--modality",
        "micrograph",
        "--bundle",
        bundles["micrograph"],
        "--device",
        "cpu",
    )
    assert result.exit_code == 0, result.stderr
    assert "3 sections" in result.stdout + result.stderr
    assert "cell.bmp: no micrograph" in result.output
    assert "more: a folder within" in result.output
    denoiser = denoiser_for("micrograph")
    for number, image in enumerate(stored):
        made = tifffile.imread(tmp_path / "out" / f"z{number}.tif")
        grey = image.astype(np.float32)
        np.testing.assert_array_equal(made, np.rint(grey + denoiser.change_hu(grey)).clip(0, 255))
        assert (made != image).mean() > 0.5


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_strength_0_gives_every_bit_back(suffix: str, tmp_path: Path) -> None:
    image = sections(count=1)[0]
    source = tmp_path / f"a{suffix}"
    tifffile.imwrite(source, image) if suffix == ".tif" else Image.fromarray(image).save(source)
    outcome = denoise_micrographs(source, tmp_path / f"b{suffix}", denoiser=denoiser_for("micrograph", 0.0))
    assert outcome.written.changed == 0
    made = tifffile.imread(tmp_path / "b.tif") if suffix == ".tif" else np.asarray(Image.open(tmp_path / "b.png"))
    np.testing.assert_array_equal(made, image)


def test_16_bits_need_their_range_and_are_denoised_as_8_are(tmp_path: Path) -> None:
    eight = sections(count=1)[0]
    wide = 1000 + eight.astype("u2") * 40
    tifffile.imwrite(tmp_path / "8.tif", eight)
    tifffile.imwrite(tmp_path / "16.tif", wide)
    denoiser = denoiser_for("micrograph")
    with pytest.raises(ConfigRefusal, match=r"uint16.*--grey-range LOW HIGH"):
        denoise_micrographs(tmp_path / "16.tif", tmp_path / "no.tif", denoiser=denoiser)
    done = denoise_micrographs(
        tmp_path / "16.tif", tmp_path / "out.tif", denoiser=denoiser, grey_range=(1000, 1000 + 255 * 40)
    ).written
    change = denoiser.change_hu(eight.astype(np.float32))
    np.testing.assert_allclose(tifffile.imread(done.path) - wide.astype(float), change * 40, atol=0.6)


@pytest.mark.parametrize("value", [0, 255, 93])
def test_flat_padding_stays_as_it_is(value: int, tmp_path: Path) -> None:
    image = sections(count=1)[0]
    image[:20] = value
    image[40:, 30:50] = value
    image[30:32, 60:66] = value  # too small to be known from noise
    tifffile.imwrite(tmp_path / "a.tif", image)
    done = denoise_micrographs(tmp_path / "a.tif", tmp_path / "b.tif", denoiser=denoiser_for("micrograph")).written
    made = tifffile.imread(done.path)
    assert (made[:20] == value).all()
    assert (made[40:, 30:50] == value).all()
    assert (made[30:32, 60:66] != value).any()
    assert (made != image)[20:40].mean() > 0.5


@pytest.mark.parametrize("shape", [(15, 40), (40, 15), (10, 1500)])
def test_a_micrograph_too_small_is_refused_by_its_name(shape: tuple[int, int], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.resize(sections(count=1)[0], shape))
    with pytest.raises(ImageRefusal, match=r"a\.tif: images of .* pixels; allowed: 16 pixels or more"):
        denoise_micrographs(tmp_path / "a.tif", tmp_path / "b.tif", denoiser=denoiser_for("micrograph"))


def test_what_does_not_look_like_the_training_is_warned_of(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Weights for one tissue take structure off another; nothing but its look tells that it is another."""
    bundle = shutil.copytree(bundles["micrograph"], tmp_path / "bundle", symlinks=True)
    trained = ranges_of(appearance_of(image.astype(np.float32)) for image in sections(count=6))
    (bundle / "models" / "training.json").write_text(json.dumps({"appearance": trained}))
    alike, bright = sections(count=2), sections(count=2) // 2 + 100
    for name, images in (("alike", alike), ("bright", bright)):
        tifffile.imwrite(tmp_path / f"{name}.tif", images, photometric="minisblack")
    told = {
        name: run(tmp_path / f"{name}.tif", tmp_path / f"{name}.out.tif", "--modality=micrograph", "--bundle", bundle)
        for name in ("alike", "bright")
    }
    assert [result.exit_code for result in told.values()] == [0, 0]
    assert "2/2 sections" in told["alike"].output
    assert "warning" not in told["alike"].output
    assert "warning: bright.tif: a mean brightness of 1" in told["bright"].output
    assert "all scans of the training (" in told["bright"].output
    found = TrainingRecord.of_bundle(bundle).compare_micrographs(bright.astype(np.float32))
    assert [one.short.split()[0] for one in found] == ["brightness", "contrast"]
    assert not TrainingRecord().compare_micrographs(bright.astype(np.float32))


@pytest.mark.parametrize("suffix", [".tif", ".png", ".mrc"])
def test_micrographs_are_denoised_once(suffix: str, tmp_path: Path) -> None:
    image = sections(count=1)[0]
    source, once = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    if suffix == ".mrc":
        mrcfile.new(source, image.astype("u2")).close()
    elif suffix == ".png":
        Image.fromarray(image).save(source)
    else:
        tifffile.imwrite(source, image)
    denoiser, grey = denoiser_for("micrograph"), (0.0, 255.0)
    denoise_micrographs(source, once, denoiser=denoiser, grey_range=grey)
    with pytest.raises(ImageRefusal, match=rf"b\{suffix}: its description says 'AI-processed, derived'"):
        denoise_micrographs(once, tmp_path / f"c{suffix}", denoiser=denoiser, grey_range=grey)
    assert not (tmp_path / f"c{suffix}").exists()


def test_bands_of_a_mosaic_have_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of rows, and tiles in them, give what the whole image gives, but for rounding."""
    from iscl_monai.inference import denoiser as module

    image = np.tile(sections(count=1)[0], (5, 5))
    tifffile.imwrite(tmp_path / "a.tif", image)
    denoiser = denoiser_for("micrograph")
    whole = image + denoiser.change_hu(image.astype(np.float32))
    monkeypatch.setattr(module, "MOSAIC_TILE_PX", 16)
    monkeypatch.setattr(writing, "WHOLE_PIXELS", 1)
    monkeypatch.setattr(writing, "BAND_PIXELS", 101 * image.shape[1])
    shapes = []
    change = denoiser.change_mosaic
    monkeypatch.setattr(denoiser, "change_mosaic", lambda band: shapes.append(band.shape) or change(band))
    stack = writing.write_micrographs.__kwdefaults__
    monkeypatch.setitem(stack, "whole_pixels", 1)
    done = denoise_micrographs(tmp_path / "a.tif", tmp_path / "b.tif", denoiser=denoiser).written
    assert len(shapes) == 3
    assert max(image.shape) > denoiser._least_tile_px()
    made = tifffile.imread(done.path).astype(float)
    assert np.abs(made - whole.clip(0, 255)).max() < 0.51


# --- MR magnitude --------------------------------------------------------------------------------------------


def head(dtype: str = "u2") -> np.ndarray:
    rng = np.random.default_rng(0)
    across = np.hypot(*np.ogrid[-1:1:48j, -1:1:40j])
    clean = np.where(across < 0.8, 1500 + 800 * np.cos(9 * across), 0)[..., None] * np.array([1.0, 0.9, 0.8])
    noisy = np.abs(clean + 90 * (rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape)))
    return noisy.astype(dtype)


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    nib.save(nib.Nifti1Image(head(), np.diag([0.9, 0.8, 5.0, 1.0])), tmp_path / "a.nii")
    return tmp_path / "a.nii"


def test_nifti_keeps_its_geometry_and_gets_the_change(nifti: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    result = run(nifti, tmp_path / "b.nii.gz", "--modality", "mr", "--bundle", bundles["mr"], "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    before, after = nib.load(nifti), nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(before.affine, after.affine)
    assert after.get_data_dtype() == np.uint16
    scan, denoiser = read_magnitude(nifti), denoiser_for("mr")
    unit = window_of(scan) / PER_WINDOW
    for index in range(3):
        values = scan.values[..., index]
        wanted = np.rint(values + unit * denoiser.change_hu(values / np.float32(unit))).clip(0, 65535)
        assert np.abs(np.asarray(after.dataobj)[..., index] - wanted).max() <= 1
    assert (np.asarray(after.dataobj) != head()).mean() > 0.5


@pytest.mark.parametrize("factor", [1.0, 1e-6, 1e6])
def test_a_dark_that_becomes_black_is_no_less_than_0(
    factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of floats, rounding left -0.0001, and what was written was no magnitude to its reader."""
    nib.save(nib.Nifti1Image(head("f4") * np.float32(factor), np.eye(4)), tmp_path / "a.nii")
    denoiser = denoiser_for("mr")
    monkeypatch.setattr(denoiser, "change_hu", lambda values: np.where(values < 300, -values, 0))
    denoise_magnitude(tmp_path / "a.nii", tmp_path / "b.nii", denoiser=denoiser)
    assert read_magnitude(tmp_path / "b.nii").values.min() == 0


def test_mr_too_small_is_refused_by_its_name(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(head()[10:25], np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ImageRefusal, match=r"a\.nii: images of 15 x 40 pixels; allowed: 16 to 4096"):
        denoise_magnitude(tmp_path / "a.nii", tmp_path / "b.nii", denoiser=denoiser_for("mr"))


def test_strength_0_of_nifti(nifti: Path, tmp_path: Path) -> None:
    assert denoise_magnitude(nifti, tmp_path / "b.nii", denoiser=denoiser_for("mr", 0.0)).slices == 3
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "b.nii").dataobj), head())
    with pytest.raises(ImageRefusal, match=r"b\.nii: its description says"):
        denoise_magnitude(tmp_path / "b.nii", tmp_path / "c.nii", denoiser=denoiser_for("mr", 0.0))


def loud_head(sigma: float, blur_px: float = 0.0, *, masked: bool = False) -> np.ndarray:
    """A head with enough dark around it, and noise of so many thousandths of what is bright in it."""
    rng = np.random.default_rng(0)
    clean = np.where(np.hypot(*np.ogrid[-1:1:128j, -1:1:160j]) < 0.5, 1000.0, 0.0)[..., None] * np.ones(3)
    channels = rng.standard_normal((2, *clean.shape))
    if blur_px:
        channels = gaussian_filter(channels, (0, blur_px, blur_px, 0))
        channels /= channels.std()
    noisy = np.hypot(clean + sigma * channels[0], sigma * channels[1])
    return np.where(clean > 0, noisy, 0) if masked else noisy


@pytest.fixture(scope="session")
def bundle_of_50(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its training had white noise of 45 to 55 thousandths."""
    bundle = shutil.copytree(bundles["mr"], tmp_path_factory.mktemp("mr50") / "bundle", symlinks=True)
    looks = [dark_character(list(np.moveaxis(loud_head(sigma), 2, 0).astype("f4"))) for sigma in (45, 55)]
    (bundle / "models" / "training.json").write_text(json.dumps({"appearance": ranges_of(looks)}))
    return bundle


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (loud_head(50), ""),
        (loud_head(100), "warning: a.nii: noise of [0-9.]+ thousandths of the window, 1.* times above"),
        (loud_head(15), "warning: a.nii: noise of 1[45][.0-9]* thousandths of the window, [23].* times below"),
        (loud_head(50, 0.8), "warning: a.nii: noise of a mean frequency of 0.2.. cycles per pixel, 1.* times below"),
        (loud_head(50, masked=True), "note: a.nii: no dark around it shows noise"),
    ],
)
def test_mr_whose_noise_is_unlike_the_training_is_warned_of(
    made: np.ndarray, said: str, bundle_of_50: Path, tmp_path: Path
) -> None:
    nib.save(nib.Nifti1Image(made.astype("f4"), np.eye(4)), tmp_path / "a.nii")
    result = run(tmp_path / "a.nii", tmp_path / "b.nii", "--modality=mr", "--bundle", bundle_of_50)
    assert result.exit_code == 0
    told = " ".join(result.output.split())
    assert "3/3 slices" in told
    assert re.search(said, told) if said else not re.search("warning|note:", told)


def test_weights_of_another_mr_say_so_in_the_objects(bundle_of_50: Path, tmp_path: Path) -> None:
    """A real series whose dark was masked, with noise on it. Of an unknown training nothing is said."""
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for path in sorted((real("mri/mri") / "mri" / "t1w_dicom").iterdir())[8:10]:
        one = pydicom.dcmread(path)
        values = one.pixel_array
        shown, unseen = 4 * rng.standard_normal((2, *values.shape))
        noisy = np.hypot(values + shown, unseen)
        one.set_pixel_data(np.rint(noisy).astype(values.dtype), one.PhotometricInterpretation, one.BitsStored)
        one.save_as(tmp_path / "in" / path.name)
    record = TrainingRecord(appearance={"dark_noise": [400.0, 500.0], "dark_fineness": [0.01, 0.02]})
    for name, training in (("known", record), ("unknown", TrainingRecord())):
        denoise_magnitude(tmp_path / "in", tmp_path / name, denoiser=denoiser_for("mr"), training=training)
    texts = {
        name: {pydicom.dcmread(path).DerivationDescription for path in (tmp_path / name).iterdir()}
        for name in ("known", "unknown")
    }
    assert all("Unlike the training: noise" in text for text in texts["known"])
    assert all("Unlike" not in text for text in texts["unknown"])


def test_real_scans_of_two_scanners_are_told_apart() -> None:
    """0.055 T, whose noise is smooth, by weights for 3 T with white noise, and the other way; not the own kind."""

    def slices(path: Path, sigma: float = 0.0) -> list[np.ndarray]:
        scan, rng = read_magnitude(path), np.random.default_rng(0)
        values = scan.values * (PER_WINDOW / window_of(scan))
        real_part, imaginary = sigma * rng.standard_normal((2, *values.shape))
        return list(np.moveaxis(np.hypot(values + real_part, imaginary), 2, 0).astype("f4"))

    folder = real("mri/mri") / "mri"
    low, high = (
        [folder / kind / f"fig{name}_T1w.nii" for name in ("6A", "7B")] for kind in ("ulf_055T", "clinical_3T")
    )
    trained = {
        "low": TrainingRecord(appearance=ranges_of([dark_character(slices(low[0]))])),
        "high": TrainingRecord(appearance=ranges_of([dark_character(slices(high[0], 50.0))])),
    }
    own = {"low": slices(low[1]), "high": slices(high[1], 50.0)}
    assert {name: trained[name].compare_magnitude(own[name]).unlike for name in own} == {"low": (), "high": ()}
    assert [one.short.split(" 1.")[0] for one in trained["high"].compare_magnitude(own["low"]).unlike][-1] == (
        "frequency of the noise"
    )
    assert trained["low"].compare_magnitude(own["high"]).unlike
    assert trained["high"].compare_magnitude(slices(high[1])).unmeasured


def test_a_real_series_becomes_derived_mr_objects(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for path in sorted((real("mri/mri") / "mri" / "t1w_dicom").iterdir())[8:10]:
        shutil.copy(path, tmp_path / "in")
    assert denoise_magnitude(tmp_path / "in", tmp_path / "out", denoiser=denoiser_for("mr")).slices == 2
    before = {one.InstanceNumber: one for one in map(pydicom.dcmread, (tmp_path / "in").iterdir())}
    made = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    assert len({one.SeriesInstanceUID for one in made}) == 1
    for after in made:
        source = before[after.InstanceNumber]
        assert after.SOPClassUID == source.SOPClassUID
        assert after.StudyInstanceUID == source.StudyInstanceUID
        assert after.SeriesInstanceUID != source.SeriesInstanceUID
        assert after.SOPInstanceUID != source.SOPInstanceUID
        assert list(after.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        assert after.get("RescaleType") == source.get("RescaleType") != "HU"
        assert "not for primary diagnosis" in after.ImageComments
        assert after.ImagePositionPatient == source.ImagePositionPatient
        assert (after.pixel_array != source.pixel_array).any()
    with pytest.raises(DicomRefusal, match=r"DENOISED; allowed: images that were not denoised before"):
        denoise_magnitude(tmp_path / "out", tmp_path / "twice", denoiser=denoiser_for("mr"))


@pytest.mark.parametrize("kind", ["sections", "section", "nifti", "series"])
def test_a_report_shows_what_was_written(kind: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    """Where the report of CT lies, in its own unit, with before and after read from the files."""
    domain = "micrograph" if kind.startswith("section") else "mr"
    source, made, report = tmp_path / "in", tmp_path / "out", tmp_path / "out" / "report.html"
    if kind == "sections":
        source.mkdir()
        for number, image in enumerate(sections(count=14)):
            tifffile.imwrite(source / f"z{number:02}.tif", image)
    elif kind == "section":
        source, made, report = tmp_path / "a.tif", tmp_path / "b.ome.tif", tmp_path / "b.ome.report.html"
        tifffile.imwrite(source, np.tile(sections(count=1)[0], (20, 20)))
    elif kind == "nifti":
        source, made, report = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", tmp_path / "b.report.html"
        nib.save(nib.Nifti1Image(loud_head(50).astype("f4"), np.eye(4)), source)
    else:
        source.mkdir()
        for path in sorted((real("mri/mri") / "mri" / "t1w_dicom").iterdir())[8:10]:
            shutil.copy(path, source)
    words = [source, made, f"--modality={domain}", "--bundle", bundles[domain], "--report"]
    assert run(*words).exit_code == 0
    count = {"sections": 12, "section": 1, "nifti": 3, "series": 2}[kind]
    page, content = report.read_text(), json.loads(report.with_suffix(".json").read_text())
    assert page.count('<p class="which">') == count
    unit = "grey levels" if domain == "micrograph" else "thousandths of the window"
    assert unit in page
    assert "HU" not in re.sub(r'"data:[^"]*"', "", page.partition("<body")[2].partition("<script")[0])
    assert "not for primary diagnosis" in page
    assert set(re.findall(r"url\(#([a-z0-9-]+)\)", page)) <= set(re.findall(r'filter id="([^"]+)"', page))
    rows = {row["name"]: row for row in content["cases"][0]["rows"]}
    if kind == "nifti":  # where nothing is: Rayleigh's 0.655 sigma, of which the least tenth
        assert 0.7 * 50 * 0.655 < rows["Local noise, quietest tenth"]["noisy"] < 50 * 0.655
    if kind == "section":  # of 1200 x 1400 pixels: the middle
        before, after = (tifffile.imread(path)[88:1112, 188:1212].astype(float) for path in (source, made))
        assert rows["Mean"]["noisy"] == pytest.approx(before.mean(), rel=1e-5)
        assert rows["Mean"]["denoised"] == pytest.approx(after.mean(), rel=1e-5)
        removed = rows["Removed, root mean square"]["denoised"]
        assert removed == pytest.approx(np.sqrt(np.mean((before - after) ** 2)), rel=1e-4)
    refused = run(*words[:1], tmp_path / "another", *words[2:]) if kind == "section" else run(*words)
    assert refused.exit_code == 2


def test_a_report_that_is_there_is_not_written_over(nifti: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "b.report.json").write_text("mine")
    result = run(nifti, tmp_path / "b.nii", "--modality=mr", "--bundle", bundles["mr"], "--report")
    assert result.exit_code == 2
    assert not (tmp_path / "b.nii").exists()
    assert (tmp_path / "b.report.json").read_text() == "mine"


def test_mr_is_never_guessed(nifti: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    for words in (
        [nifti, tmp_path / "x.nii", "--bundle", bundles["ct"]],
        [nifti, tmp_path / "x.nii", "--bundle", bundles["mr"]],
    ):
        result = run(*words, "--device", "cpu")
        assert result.exit_code == 2, result.stderr
        assert not (tmp_path / "x.nii").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--modality", "xray"], "--modality xray; allowed: ct, micrograph, mr"),
        (["--modality", "mr", "--precision", "bfloat16"], "--precision with --modality mr"),
        (["--modality", "micrograph", "--workers", "2"], "--workers with --modality micrograph"),
        (["--modality", "mr", "--trust-hu"], "--trust-hu with --modality mr"),
        (["--modality", "mr", "--grey-range", "0", "9"], "--grey-range with --modality mr"),
        (["--modality", "micrograph", "--series", "1.2"], "--series with --modality micrograph"),
        (["--allow-holes"], "--allow-holes with --modality ct"),
    ],
)
def test_options_of_other_images_are_refused(options: list[str], words: str, nifti: Path, tmp_path: Path) -> None:
    result = run(nifti, tmp_path / "x.nii", *options)
    assert result.exit_code == 2
    assert words in result.stderr
