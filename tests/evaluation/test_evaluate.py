"""``iscl-monai evaluate`` from files to table, metrics.json and report; and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import torch
from dicom.synthetic import Series, setting
from evaluation.saved import save_nifti
from inference.tiny import make_bundle
from report.valid_html import check_numbers, check_page
from typer.testing import CliRunner, Result

from iscl_monai.baselines import classical
from iscl_monai.cli import app
from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.evaluate import evaluate_datalist, evaluate_without_reference
from iscl_monai.evaluation.pairs import Pair
from iscl_monai.evaluation.scans import read_scan
from iscl_monai.evaluation.scores import Scores
from iscl_monai.inference import Denoiser
from iscl_monai.inference.slice_denoiser import denoise_volume
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.quality.protocol import HU_BODY, LDCT_BENCH_ABDOMEN, LDCT_BENCH_CHEST, PROTOCOLS, TRUTH_REAL_ANATOMY

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "evaluate.md"
SIDE = 160
SLICES = 4


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ISCL_MONAI_BUNDLE", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


def body(sigma_hu: float = 0, seed: int = 0, slices: int = SLICES) -> npt.NDArray[np.float32]:
    """A body of soft tissue in air, whole HU, (slice, row, column); lower right is brighter, to tell axes apart."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = np.hypot((rows - 78) / 70, (columns - 80) / 72) < 1
    image = np.where(inside, 30 + rows // 8 + columns // 16, -1000)
    noise = np.random.default_rng(seed).normal(0, sigma_hu, (slices, SIDE, SIDE)) if sigma_hu else 0
    return np.rint(image + inside * noise + np.arange(slices)[:, None, None]).astype(np.float32)


def dicom(folder: Path, hu: npt.NDArray[np.float32], **changes: Any) -> Path:
    """A series that holds these HU; other elements may be set."""

    def paint(dataset: Any, index: int) -> None:
        dataset.PixelData = (hu[index] + 1024).astype(np.uint16).tobytes()
        setting(**{"BodyPartExamined": "ABDOMEN", **elements})(dataset, index)

    places = {key: changes.pop(key) for key in ("origin", "spacing_mm") if key in changes}
    elements = changes
    Series(slots=range(len(hu)), rows=SIDE, columns=SIDE, pixel_spacing_mm=(0.8, 0.8), change=paint, **places).write(
        folder
    )
    return folder


@pytest.fixture
def scans(tmp_path: Path) -> dict[str, Path]:
    """``full``, ``low``, ``denoised``: one scan, its noisy self, and that with half the noise."""
    (tmp_path / "in").mkdir()
    sigmas = {"full": 0, "low": 40, "denoised": 20}
    return {name: dicom(tmp_path / "in" / name, body(sigma)) for name, sigma in sigmas.items()}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip() and "scans" not in line.split("/")[-1][:20]]
    assert len([line for line in lines if "Refusal" in line]) == 1
    assert re.match(r"\w*Refusal: .*; allowed: .*; do: .*", lines[-1])
    for word in words:
        assert word in lines[-1]


def metrics(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


# --- pairs ------------------------------------------------------------------------------------------


def test_a_pair_is_measured_with_its_noisy_input_beside(scans: dict[str, Path], tmp_path: Path) -> None:
    result = run(scans["denoised"], scans["full"], "--noisy", scans["low"], "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert f"Protocol {HU_BODY.identity}: 1 patient, 4 slices" in result.stdout
    assert "no interval with fewer than 3 patients" in " ".join(result.stdout.split())
    assert "BodyPartExamined: ABDOMEN" in result.stdout
    figures = metrics(tmp_path / "out")
    assert figures["protocol"]["identity"] == HU_BODY.identity
    assert figures["protocol"]["data_range_hu"] == 2000
    for method, sigma in {"noisy": 40, "denoised": 20}.items():
        expected = fidelity(body(sigma), body()).mean()
        assert figures["cohort"][method]["psnr_db"]["mean"] == pytest.approx(expected.psnr_db)
        assert figures["patients"]["denoised"][method]["rmse_hu"] == pytest.approx(expected.rmse_hu)
        assert f"{expected.psnr_db:.2f}" in result.stdout
    slices = figures["pairs"][0]["slices"]["denoised"]["psnr_db"]
    assert slices == pytest.approx(fidelity(body(20), body()).psnr_db.tolist())
    gain = figures["cohort"]["gain"]["psnr_db"]
    assert gain["mean"] == pytest.approx(6.0, abs=0.3)
    assert gain["interval_95"] is None
    assert figures["made_with"]["iscl-monai"]


def test_the_report_shows_all_three_and_needs_no_network(scans: dict[str, Path], tmp_path: Path) -> None:
    run(scans["denoised"], scans["full"], "--noisy", scans["low"], "--out", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    check_page(page, scripts=1)
    for label in ("Before", "After", "Reference", "Error left"):
        assert f"<b>{label}</b>" in page
    assert HU_BODY.identity in page
    assert "not for primary diagnosis" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    (case,) = metrics(tmp_path / "out")["cases"]
    check_numbers(page, case["rows"])
    psnr = next(row for row in case["rows"] if row["name"] == "PSNR")
    cohort = metrics(tmp_path / "out")["cohort"]
    assert (psnr["noisy"], psnr["denoised"]) == (
        cohort["noisy"]["psnr_db"]["mean"],
        cohort["denoised"]["psnr_db"]["mean"],
    )


def test_without_the_noisy_input_it_says_so(scans: dict[str, Path], tmp_path: Path) -> None:
    result = run(scans["denoised"], scans["full"], "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "note: the noisy input was not given" in result.stdout
    assert "Noisy input" not in result.stdout
    assert set(metrics(tmp_path / "out")["cohort"]) == {"denoised"}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>Before</b>" not in page
    assert "<b>Error left</b>" in page


def test_other_protocols_and_body_parts(scans: dict[str, Path]) -> None:
    pair = (scans["denoised"], scans["full"], "--noisy", scans["low"], "--protocol")
    abdomen, chest = run(*pair, "ldct-bench-abdomen"), run(*pair, "ldct-bench-chest")
    assert f"Protocol {LDCT_BENCH_ABDOMEN.identity}" in abdomen.stdout
    assert "VIF" in abdomen.stdout
    assert "is meant for" not in abdomen.stdout
    assert f"Protocol {LDCT_BENCH_CHEST.identity}" in chest.stdout
    assert "BodyPartExamined is ABDOMEN; ldct-bench-chest is meant for CHEST" in chest.stdout
    assert "the CT window of ISCL's authors is not known" in run(*pair, "iscl-8bit").stdout


def test_a_volume_file_is_compared_with_the_series_it_was_made_from(scans: dict[str, Path], tmp_path: Path) -> None:
    """Axis orders differ between the two; both are brought to the one of DICOM."""
    scan = read_scan(scans["full"])
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine_lps
    path = tmp_path / "full.nii.gz"
    image = nibabel.Nifti1Image(scan.hu.transpose(2, 1, 0), ras[:, [2, 1, 0, 3]])
    sideways = nibabel.Nifti1Image(scan.hu.transpose(1, 2, 0), ras[:, [1, 2, 0, 3]])
    step = ras[:, [2, 1, 0, 3]] @ np.diag([1.0, 1.0, -1.0, 1.0])
    step[:, 3] = ras @ [SLICES - 1, 0, 0, 1]
    downwards = nibabel.Nifti1Image(scan.hu[::-1].transpose(2, 1, 0), step)
    for kept in (image, nibabel.as_closest_canonical(image), sideways, downwards):
        nibabel.save(kept, path)
        read = read_scan(path)
        np.testing.assert_array_equal(read.hu, scan.hu)
        np.testing.assert_allclose(read.affine_lps, scan.affine_lps, atol=1e-4)
        np.testing.assert_allclose(read.positions_mm, scan.positions_mm, atol=1e-4)
        result = run(path, scans["full"])
        assert result.exit_code == 0, result.output
        assert "RMSE, HU" in result.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hu": body()[:3]}, "has shape"),
        ({"spacing_mm": 2.1}, "slices of"),
        ({"origin": (-10.0, -20.0, 101.0)}, "1.00 mm apart"),
        ({"origin": (-9.0, -20.0, 100.0)}, "pixels of"),
        ({"PixelSpacing": [0.81, 0.8]}, "pixels of"),
    ],
)
def test_scans_that_lie_elsewhere_are_refused(
    scans: dict[str, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    other = dicom(tmp_path / "other", **{"hu": body(), **changes})
    refused(run(scans["denoised"], other, "--out", tmp_path / "out"), "ImageRefusal", message)
    refused(run(scans["denoised"], scans["full"], "--noisy", other), "ImageRefusal", message)
    refused(run("--no-reference", scans["denoised"], other), "ImageRefusal", message)
    assert not (tmp_path / "out").exists()


def test_wrong_words_are_refused_in_one_line(scans: dict[str, Path], tmp_path: Path, bundle: Path) -> None:
    pair = (scans["denoised"], scans["full"])
    refused(run(*pair, "--protocol", "hu_body"), "did you mean hu-body?")
    refused(run(*pair, "--bundle", bundle), "leave it out")
    refused(run(scans["denoised"]), "without a datalist.json")
    refused(run(scans["denoised"], tmp_path / "none"), "none")
    # Told before any work: the reference that is missing would be found later.
    refused(run(scans["denoised"], tmp_path / "none", "--out", scans["full"]), "full exists")
    refused(run("--no-reference", *pair, "--noisy", scans["low"]), "give the noisy scan first")
    refused(run("--no-reference", *pair, "--bundle", bundle), "leave one out")
    refused(run("--no-reference", scans["low"], "--bundle", tmp_path), "model.pt does not exist")


def test_options_that_would_do_nothing_are_refused(scans: dict[str, Path], tmp_path: Path) -> None:
    pair = (scans["denoised"], scans["full"])
    refused(run("--no-reference", *pair, "--protocol", "hu-body"), "--protocol with --no-reference")
    refused(run("--no-reference", *pair, "--section", "test"), "--section without a datalist")
    refused(run(*pair, "--section", "test"), "--section without a datalist")
    refused(run(*pair, "--device", "cpu"), "--device with two scans")
    (tmp_path / "d.nii.gz").write_bytes(b"\x1f\x8b\x80")
    refused(run(tmp_path / "d.nii.gz"), "d.nii.gz alone", "give both")
    air = dicom(tmp_path / "air", np.full((2, SIDE, SIDE), -1000, np.float32))
    refused(run("--no-reference", air, air), "shows no body", "give a scan of a patient")


# --- datalists --------------------------------------------------------------------------------------


@pytest.fixture
def datalist(scans: dict[str, Path]) -> Path:
    """Three test patients, one of them with two scans; and pools that are not read."""
    folder = scans["full"].parent
    pairs = []
    for index, patient in enumerate(("a", "b", "c", "c")):
        low = dicom(folder / f"low{index}", body(40, seed=index))
        pairs.append({"noisy": low.name, "clean": "full", "patient": patient})
    pools = {name: [{"image": "full", "patient": f"{name} patient"}] for name in ("noisy", "clean")}
    (folder / "datalist.json").write_text(json.dumps({**pools, "test": pairs}), encoding="utf-8")
    return folder


def record(bundle: Path, tmp_path: Path, **content: Any) -> Path:
    """A copy of the bundle whose training left a record."""
    copy = make_bundle(tmp_path / f"bundle{len(list(tmp_path.iterdir()))}")
    (copy / "models" / "training.json").write_text(json.dumps(content), encoding="utf-8")
    return copy


def test_a_datalist_is_denoised_in_memory_and_averaged_over_patients(
    datalist: Path, bundle: Path, tmp_path: Path
) -> None:
    result = run(datalist, "--bundle", bundle, "--device", "cpu", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "3 patients, 16 slices; mean (95 % t interval over patients)" in " ".join(result.stdout.split())
    assert "do not say which patients they have seen" in result.stdout
    figures = metrics(tmp_path / "out")
    denoiser = Denoiser.from_bundle(bundle, device="cpu")
    psnr_db = []
    for seed in range(4):
        after = denoise_volume(body(40, seed=seed), denoiser)
        psnr_db.append(fidelity(after, body()).mean().psnr_db)
    patients = [psnr_db[0], psnr_db[1], (psnr_db[2] + psnr_db[3]) / 2]
    cohort = figures["cohort"]["denoised"]["psnr_db"]
    assert cohort["mean"] == pytest.approx(np.mean(patients))
    assert cohort["interval_95"][0] <= cohort["mean"] <= cohort["interval_95"][1]
    assert figures["mean_over_slices"]["denoised"]["psnr_db"] == pytest.approx(np.mean(psnr_db))
    assert [pair["name"] for pair in figures["pairs"]] == ["a", "b", "c", "c, scan 2"]
    assert figures["made_with"]["weights"].endswith(denoiser.identity.weights_digest)
    assert "Cases shown" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_bundle_may_come_from_the_environment(
    datalist: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISCL_MONAI_BUNDLE", str(bundle))
    assert run(datalist / "datalist.json", "--device", "cpu").exit_code == 0


def test_weights_are_not_scored_on_patients_they_have_seen(datalist: Path, bundle: Path, tmp_path: Path) -> None:
    seen = record(bundle, tmp_path, patients=["x", "b"])
    refused(
        run(datalist, "--bundle", seen, "--out", tmp_path / "out"),
        "LeakRefusal",
        "have seen b, in training",
    )
    assert not (tmp_path / "out").exists()
    result = run(datalist, "--bundle", record(bundle, tmp_path, patients=["x", "y"]), "--device", "cpu")
    assert result.exit_code == 0
    assert "no patient among the 2 that the weights have seen" in result.stdout
    refused(run(datalist, "--bundle", record(bundle, tmp_path, patients="b")), "CheckpointRefusal", "training.json")


def test_weights_of_one_published_split_are_not_scored_on_what_it_trains(
    datalist: Path, bundle: Path, tmp_path: Path
) -> None:
    """C121 is a test patient of ldct-bench, and trains iscl-tmi2021."""
    content = json.loads((datalist / "datalist.json").read_text())
    content["test"] = [{**content["test"][0], "patient": "C121"}]
    content["split_protocol"] = "ldct-bench"
    (datalist / "datalist.json").write_text(json.dumps(content))
    weights = record(bundle, tmp_path, patients=[], split_protocol="iscl-tmi2021")
    refused(run(datalist, "--bundle", weights), "LeakRefusal", "C121 in its training set")


def test_datalists_without_what_was_asked_for_are_refused(datalist: Path, bundle: Path, tmp_path: Path) -> None:
    refused(run(datalist, "--bundle", bundle, "--section", "validation"), "no 'validation' pairs")
    refused(run(datalist, "--bundle", bundle, "--section", "noisy"), "--section noisy")
    refused(run(datalist, "--bundle", bundle, "--noisy", datalist / "low0"), "the datalist has it")
    refused(run(datalist, "--bundle", tmp_path), "model.pt does not exist")


# --- methods of others: how they are found and checked is tested in tests/evaluation/submission ------


def test_denoised_scans_of_any_method_are_measured(datalist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    for index in range(4):
        half = (body(40, seed=index) + body()) / 2
        save_nifti(folder / f"low{index}.nii.gz", read_scan(datalist / f"low{index}"), half)
    result = run(datalist, "--denoised", folder, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "nothing says which patients this method has seen" in result.stdout
    found = metrics(tmp_path / "out")
    expected = fidelity((body(40, seed=1) + body()) / 2, body()).mean().psnr_db
    assert found["patients"]["b"]["denoised"]["psnr_db"] == pytest.approx(expected, abs=1e-4)
    assert found["cohort"]["gain"]["psnr_db"]["mean"] == pytest.approx(6.0, abs=0.2)
    assert found["cohort"]["gain"]["psnr_db"]["interval_95"] is not None
    assert found["made_with"]["denoised scans"] == "theirs"
    assert found["made_with"]["voxels"].startswith("sha256 ")
    shutil.copyfile(folder / "low0.nii.gz", folder / "nobody.nii.gz")
    refused(run(datalist, "--denoised", folder), "nobody.nii.gz belongs to no pair")


def test_the_reference_is_no_denoised_scan(datalist: Path, tmp_path: Path) -> None:
    for index in range(4):
        dicom(tmp_path / "theirs" / f"low{index}", body(), SeriesInstanceUID=f"1.2.3.{index}")
    refused(run(datalist, "--denoised", tmp_path / "theirs"), "denoised scan of a is its reference", "voxel by voxel")


def with_truth(folder: Path, patients: Sequence[str], known: Sequence[str]) -> Path:
    """A datalist whose references have 20 HU of noise; of some patients the truth stands in it, too."""
    truth = dicom(folder / "truth", body())
    pairs = []
    for index, patient in enumerate(patients):
        low, full = (
            dicom(folder / f"{name}{index}", body(sigma, seed=10 * index + sigma))
            for name, sigma in (("low", 40), ("full", 20))
        )
        pairs.append({"noisy": low.name, "clean": full.name, "patient": patient, "dose": 0.25})
        if patient in known:
            del pairs[-1]["dose"]
            pairs[-1] |= {"truth": truth.name, "truth_protocol": TRUTH_REAL_ANATOMY.name}
    pools = {name: [{"image": "full0", "patient": f"{name} patient"}] for name in ("noisy", "clean")}
    (folder / "datalist.json").write_text(json.dumps({**pools, "test": pairs}), encoding="utf-8")
    return folder


def test_pairs_with_a_truth_are_held_against_it_and_never_mixed_with_others(tmp_path: Path) -> None:
    (tmp_path / "D").mkdir()
    place = with_truth(tmp_path / "D", "abcd", "cd")
    result = run(place, "--method", "gaussian", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    told = metrics(tmp_path / "out")
    assert set(told["patients"]) == {"a", "b"}
    found = told["truth"][TRUTH_REAL_ANATOMY.name]
    assert found["protocol"]["identity"] == TRUTH_REAL_ANATOMY.identity
    assert set(found["patients"]) == {"c", "d"}
    filtered = denoise_volume(body(40, seed=60), classical("gaussian"))
    expected = fidelity(filtered, body(), protocol=TRUTH_REAL_ANATOMY).mean()
    assert found["patients"]["c"]["denoised"]["rmse_hu"] == pytest.approx(expected.rmse_hu, rel=1e-3)
    assert found["excess_rmse_hu"] == {}  # a truth has no noise to be in excess of
    for identity in (HU_BODY.identity, TRUTH_REAL_ANATOMY.identity):
        assert f"Protocol {identity}: 2 patients" in result.stdout
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert TRUTH_REAL_ANATOMY.identity in page


def test_the_excess_over_a_references_own_noise_is_the_error_to_the_truth(tmp_path: Path) -> None:
    """Both doses simulated independently: what the filter is wrong by beyond 20 HU is what it is wrong by."""
    (tmp_path / "D").mkdir()
    evaluation = evaluate_datalist(with_truth(tmp_path / "D", "ab", "ab"), method="gaussian")
    truth = evaluation.against_truth[0]
    errors = [mean.mse_hu2 for mean in truth.patients("denoised").values()]
    excess = evaluation.scores.excess_rmse_hu()
    assert excess["denoised"] == pytest.approx(np.sqrt(np.mean(errors)), rel=0.05)
    assert excess["noisy"] == pytest.approx(40, rel=0.05)
    assert any("a perfect denoiser would gain" in notice for notice in evaluation.notices)


def test_functions_are_measured_by_name(datalist: Path, bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "my_method.py"
    file.write_text("def denoise(image):\n    return image\n")
    evaluation = evaluate_datalist(datalist, method=f"{file}:denoise")
    assert evaluation.cohorts["gain"].estimates["psnr_db"].mean == 0
    assert evaluation.made_with["code"] == "my_method.py:denoise"
    refused(run(datalist, "--method", "gausian"), "did you mean 'gaussian'")
    refused(run(datalist, "--method", "tv", "--bundle", bundle), "--method with --bundle")
    refused(run(datalist, "--method", "tv", "--denoised", tmp_path), "--denoised with --method")
    refused(run(datalist / "low0", datalist / "full", "--method", "tv"), "--method without a datalist")
    with pytest.raises(ConfigRefusal, match="neither bundle, denoised nor method"):
        evaluate_datalist(datalist)


# --- no reference -----------------------------------------------------------------------------------


def test_without_a_reference_noise_and_texture_are_told(scans: dict[str, Path], tmp_path: Path) -> None:
    result = run("--no-reference", scans["low"], scans["denoised"], "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "No reference: before and after" in result.stdout
    assert "nothing in this panel can tell whether a lesion was kept" in " ".join(result.stdout.split())
    figures = metrics(tmp_path / "out")
    assert figures["protocol"] == "no reference"
    tissue = next(region for region in figures["regions"] if region["name"] == "soft tissue")
    assert tissue["noise_removed"] == pytest.approx(0.5, abs=0.05)
    assert tissue["sigma_after_hu"] / tissue["sigma_before_hu"] == pytest.approx(0.5, abs=0.05)
    assert figures["slices"]["flicker"] == pytest.approx(0.5, abs=0.05)
    assert figures["texture"]["mean_shift"] == pytest.approx(0, abs=0.05)
    power = [sum(figures["texture"][name]["power_hu2_mm2"]) for name in ("before", "after", "removed")]
    assert power[1] / power[0] == pytest.approx(0.25, abs=0.03)
    assert power[2] / power[0] == pytest.approx(0.25, abs=0.03)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    check_page(page, scripts=1)
    (case,) = figures["cases"]
    check_numbers(page, case["rows"])
    noise = next(row for row in case["rows"] if row["name"] == "Local noise, soft tissue")
    assert (noise["noisy"], noise["denoised"]) == (tissue["sigma_before_hu"], tissue["sigma_after_hu"])
    assert page.count('<svg class="plot"') == 2
    assert "can tell whether a lesion was kept" in page
    assert "<b>Reference</b>" not in page


def test_a_scan_as_quiet_as_what_is_left_on_purpose_is_left_alone(scans: dict[str, Path], tmp_path: Path) -> None:
    """Of ``--no-reference`` and of a datalist, as of ``denoise --report``."""
    found = evaluate_without_reference(scans["low"], scans["low"])
    for number, (left, words) in enumerate(
        (({}, "hardly anything removed"), ({"target_noise_hu": "90"}, "left alone"))
    ):
        replace(found, made_with=dict(found.made_with) | left).write(tmp_path / str(number))
        assert words in (tmp_path / str(number) / "report.html").read_text()
    pair = Pair(name="p", patient="p", noisy=found.noisy, reference=found.noisy, denoised_hu=found.noisy.hu)
    for left_hu, words in ((None, "hardly anything removed"), (90.0, "left alone")):
        scores = Scores(HU_BODY, left_hu=left_hu)
        scores.add(pair)
        verdicts = {row.name: row.verdict.words for row in scores.cases()[0].rows}
        assert verdicts["Local noise, soft tissue"] == words


def test_without_a_reference_the_bundle_may_denoise(scans: dict[str, Path], bundle: Path, tmp_path: Path) -> None:
    options = ("--bundle", bundle, "--device", "cpu", "--out", tmp_path / "out")
    result = run("--no-reference", scans["low"], *options)
    assert result.exit_code == 0, result.output
    figures = metrics(tmp_path / "out")
    after = denoise_volume(body(40), Denoiser.from_bundle(bundle, device="cpu"))
    assert figures["mean_shift_hu"] == pytest.approx(float((after - body(40))[body() > -500].mean()), abs=0.5)
    assert "weights" in figures["made_with"]


def test_help_tells_every_option() -> None:
    figures = run("--help").stdout
    for option in ("noisy", "protocol", "bundle", "section", "no-reference", "device", "out"):
        assert f"--{option}" in figures


@pytest.fixture
def workplace(datalist: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples of the documentation name."""
    folder = tmp_path / "docs"
    for name, called in {"full": "full_dose", "low": "low_dose", "denoised": "denoised"}.items():
        shutil.copytree(datalist / name, folder / called)
    shutil.copytree(datalist, folder / "D")
    shutil.copytree(bundle, folder / "runs" / "a")
    monkeypatch.chdir(folder)
    return folder


def test_the_commands_of_the_documentation_run_and_its_python_gives_the_same(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert set(PROTOCOLS) == set(re.findall(r"^\| `([a-z0-9-]+)` \| (?:inside|whole)", text, re.MULTILINE))
    assert HU_BODY.identity in text
    lines = re.findall(r"^iscl-monai evaluate (.*)$", text, re.MULTILINE)
    assert len(lines) == 3
    outputs = []
    for line in lines:
        words = shlex.split(line)
        on_cpu = ["--device", "cpu"] if "--bundle" in words and torch.cuda.is_available() else []  # as Python below
        result = run(*words, *on_cpu)
        assert result.exit_code == 0, result.output
        outputs.append(words[words.index("--out") + 1].rstrip("/"))
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(example, {})
    assert "gain" in capsys.readouterr().out
    for out in outputs:
        assert metrics(workplace / f"python_{out}") == metrics(workplace / out)
        assert (workplace / f"python_{out}" / "report.html").is_file()


def test_progress_counts_pairs(datalist: Path, bundle: Path) -> None:
    seen: list[tuple[int, int]] = []
    evaluate_datalist(datalist, bundle=bundle, device="cpu", progress=lambda *counts: seen.append(counts))
    assert seen == [(done, 4) for done in range(5)]


def test_without_a_reference_one_thing_denoises(scans: dict[str, Path], bundle: Path) -> None:
    for given in ({}, {"denoised": scans["denoised"], "bundle": bundle}):
        with pytest.raises(ConfigRefusal, match="both or neither"):
            evaluate_without_reference(scans["low"], **given)
