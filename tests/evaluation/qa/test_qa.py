"""The check as a whole: everything measured, told in plain numbers, shown on a page, and refused where it must be."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation.qa.denoisers import Made, Oracle
from report.valid_html import check_page
from scipy import ndimage

from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.qa import QUICK, Limits, QaResult, cache_folder, headline, run_qa, slices_to_do
from iscl_monai.evaluation.qa.by_dose import percent
from iscl_monai.evaluation.qa.making import FIXED_SEED, between_dose
from iscl_monai.evaluation.qa.noise import noise_figures, texture
from iscl_monai.evaluation.qa.page import write_qa_page
from iscl_monai.evaluation.qa.phantom import MODULES, WATER, read_phantom
from iscl_monai.evaluation.qa.robustness import robustness
from iscl_monai.evaluation.qa.verdict_table import verdict_table
from iscl_monai.phantom.anatomy_stack import SLICES
from iscl_monai.report.numbers import significant

DOSES = sorted([1.0, 0.25, between_dose(FIXED_SEED)], reverse=True)


@pytest.fixture(scope="module")
def done() -> list[int]:
    return []


@pytest.fixture(scope="module")
def result(dataset: Path, oracle: Oracle, done: list[int]) -> QaResult:
    return run_qa(Made(oracle, name="oracle <&>"), dataset, limits=Limits.proposed(), progress=done.append)


def test_every_slice_is_counted(dataset: Path, result: QaResult, done: list[int]) -> None:
    assert sum(done) == slices_to_do(read_phantom(dataset)) == (9 * 6 + SLICES) * 3


def test_an_honest_denoiser_meets_every_limit(result: QaResult) -> None:
    assert [one for one in result.verdicts if one.status != "pass"] == []


def test_noise_of_the_input_grows_as_the_dose_falls(result: QaResult) -> None:
    full, quarter = (result.at(dose) for dose in (1.0, 0.25))
    for one, other in zip(full.noise, quarter.noise, strict=True):
        assert other.before_hu / one.before_hu == pytest.approx(2, rel=0.05)
    assert full.texture_before.check == pytest.approx(1, abs=1e-6)
    # The oracle scales noise and does not colour it.
    assert quarter.texture_after.mean_per_mm == pytest.approx(quarter.texture_before.mean_per_mm, rel=0.01)


def test_the_headline_says_what_the_oracle_does(result: QaResult) -> None:
    numbers = headline(result, 0.25)
    assert numbers["noise_reduction_percent"] == pytest.approx(60, abs=5)
    assert numbers["d_prime_ratio"] > 1.5
    assert numbers["lesion_recovery"] == pytest.approx(1, abs=0.02)
    assert numbers["hallucinations_per_slice"] == 0
    assert numbers["worst_bias_hu"] < 2
    assert all(math.isfinite(value) for value in numbers.values())


def test_the_result_is_plain_json_without_nan(result: QaResult) -> None:
    text = json.dumps(result.to_json(), allow_nan=False)
    found = json.loads(text)
    assert found["denoiser"]["name"] == "oracle <&>"
    assert [one["dose"] for one in found["doses"]] == DOSES
    assert len(found["verdicts"]) == len(result.verdicts)
    assert "pictures" not in found
    assert len(text) < 300_000
    assert found["phantom"]["seed"] == FIXED_SEED
    assert {verdict["kind"] for verdict in found["verdicts"]} >= {"physics", "wish"}


def test_the_page_shows_every_verdict_and_needs_nothing_else(result: QaResult, tmp_path: Path) -> None:
    page = write_qa_page(tmp_path / "qa.html", result, made_with={"iscl-monai": "x"}).read_text(encoding="utf-8")
    check_page(page, scripts=1)
    assert page.count("<svg class=") >= 12
    assert '<table id="verdicts" class="stacked">' in page
    assert 'data-head="25 %"' in page
    assert page.count("data:image/png") == len(MODULES) * len(DOSES) * 4 + 3
    for verdict in result.verdicts:
        assert verdict.allowed in page
    lines = [line for line in page.split("<tr>") if "#why-" in line]
    assert len(lines) > 20
    for verdict in result.to_json()["verdicts"]:  # what qa.json says stands on the page, in the line of its limit
        if verdict["value"] is not None:
            value = f">{significant(verdict['value'])}"
            assert any(value in line for line in lines if f"#why-{verdict['limit']}" in line)
    assert "the fixed one: known to everybody" in page
    assert "oracle &lt;&amp;&gt;" in page
    assert "oracle <&>" not in page
    assert not re.search(r'(?:src|href)="https?:|@import', page)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower()


def test_weights_that_leave_noise_on_purpose_say_so_before_their_verdicts(result: QaResult, tmp_path: Path) -> None:
    assert result.notes == ()
    told = replace(result, denoiser={**result.denoiser, "target_noise_hu": "11.3178"})
    page = write_qa_page(tmp_path / "qa.html", told, made_with={"iscl-monai": "x"}).read_text(encoding="utf-8")
    assert page.index("leave 11.3 HU of noise on purpose") < page.index("<h2>Verdicts")
    assert told.to_json()["notes"] == [*told.notes]


def test_the_table_of_verdicts_says_where_the_worst_is_and_is_a_list_on_a_phone(result: QaResult) -> None:
    table = verdict_table(result)
    line = next(line for line in table.lines if line.limit == "noise_reduction_percent_min")
    assert line.quantity == "noise reduction, %"
    least = [one.quantity for one in result.verdicts if one.limit == line.limit]
    assert [f"noise reduction, % (least: {cell.place})" for cell in line.cells if cell.text] == least
    either_way = [line for line in table.lines if line.allowed.endswith(" either way")]
    assert [line.allowed for line in either_way] == ["at most 20 either way", "at most 30 either way"]


def test_what_was_not_asked_for_is_not_judged(dataset: Path) -> None:
    only = Limits(f50_ratio_min=0.9, lowest_dose=0.5)
    result = run_qa(Made(lambda image: image), dataset, limits=only)
    assert {verdict.limit for verdict in result.verdicts} == {"f50_ratio_min"}
    assert {verdict.dose: verdict.status for verdict in result.verdicts} == {
        dose: "pass" if dose >= 0.5 else "not judged" for dose in DOSES
    }


def test_noise_and_texture_of_white_noise() -> None:
    scans = np.random.default_rng(0).normal(10, 7, (8, 256, 256)).astype(np.float32)
    soft = ndimage.gaussian_filter(scans, (0, 1, 1))
    figures = noise_figures("water", scans, soft, np.ones((256, 256), bool))
    assert figures.before_hu == pytest.approx(7, rel=0.01)
    assert figures.reduction_percent == pytest.approx(100 * (1 - 1 / math.sqrt(4 * math.pi)), abs=1)
    disc = {"centre": (127.5, 127.5), "radius_mm": 120.0, "spacing_mm": 1.0}
    before, after = (texture(images, **disc) for images in (scans, soft))  # type: ignore[arg-type]
    np.testing.assert_allclose(before.power_hu2_mm2[2:], 49, rtol=0.15)
    # A Gaussian of one pixel leaves exp(-4 pi^2 f^2) of the power.
    expected = 49 * np.exp(-4 * np.pi**2 * after.frequency_per_mm**2)
    np.testing.assert_allclose(after.power_hu2_mm2[2:20], expected[2:20], rtol=0.15)


def test_a_constant_output_is_measured_without_a_stumble() -> None:
    flat = np.zeros((6, 256, 256), np.float32)
    silent = texture(flat, centre=(127.5, 127.5), radius_mm=120.0, spacing_mm=1.0)
    assert math.isnan(silent.mean_per_mm)


def test_a_phantom_that_is_not_there_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigRefusal, match="test objects"):
        read_phantom(tmp_path)
    with pytest.raises(ConfigRefusal, match="doses"):
        read_phantom(dataset, [0.3])
    older = tmp_path / "older"
    shutil.copytree(dataset, older, ignore=shutil.ignore_patterns("*.dcm"))
    overview = json.loads((older / "physics.json").read_text())
    del overview["modules"]["anatomy_chest"]
    (older / "physics.json").write_text(json.dumps(overview))
    with pytest.raises(ConfigRefusal, match="anatomy_chest"):
        read_phantom(older)


@pytest.mark.parametrize("spoilt", ["truncated slice", "missing slice", "truncated truth", "truncated overview"])
def test_a_damaged_phantom_is_refused_with_the_folder_to_delete(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = cache_folder(QUICK)
    shutil.copytree(dataset, kept)
    scan = min((kept / "water" / "dose_0.25").iterdir())
    if spoilt == "missing slice":
        scan.unlink()
    else:
        (truth,) = (kept / "water").rglob("truth.json")
        os.truncate({"slice": scan, "truth": truth, "overview": kept / "physics.json"}[spoilt.split()[1]], 500)
    with pytest.raises(ConfigRefusal, match=f"damaged.*delete {re.escape(str(kept))}, and run again"):
        read_phantom(kept).modules[WATER].scans_hu(0.25)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    with pytest.raises(ConfigRefusal, match=f"data_prep phantom {re.escape(str(kept))}"):
        read_phantom(kept).modules[WATER].scans_hu(0.25)


def test_doses_are_written_as_percent() -> None:
    assert [percent(dose) for dose in (1.0, 0.05, 0.125)] == ["100 %", "5 %", "12.5 %"]


def test_statistics_over_the_slice_and_chance_are_found_out() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :96] - 47.5
    body = np.where(np.hypot(rows, columns) < 35, 40.0, -1000.0).astype(np.float32)
    noisy = body + rng.normal(0, 10, body.shape).astype(np.float32)
    full_dose = (noisy[None], noisy[None] + np.float32(1.5))

    steady = robustness(Made(lambda image: image * 0.5), noisy, full_dose)
    assert steady.padded_hu == steady.cropped_hu == steady.repeat_hu == 0
    assert steady.full_dose_change_hu == pytest.approx(1.5, abs=1e-4)
    assert steady.full_dose_psnr_db == pytest.approx(20 * math.log10(2000 / 1.5), abs=1e-3)

    by_slice = robustness(Made(lambda image: image - 0.01 * image.mean()), noisy, full_dose)
    assert by_slice.padded_hu > 1
    assert by_slice.cropped_hu > 1
    assert by_slice.repeat_hu == 0
    by_chance = robustness(Made(lambda image: image + rng.normal(0, 1, image.shape)), noisy, full_dose)
    assert by_chance.repeat_hu > 1


def test_a_full_dose_scan_that_is_left_alone_has_infinite_psnr() -> None:
    body = np.full((64, 64), 40.0, np.float32)
    left = robustness(Made(lambda image: image), body, (body[None], body[None]))
    assert left.full_dose_change_hu == 0
    assert left.full_dose_psnr_db == math.inf


def test_too_few_realisations_are_refused_before_anything_is_denoised(dataset: Path) -> None:
    """With five the observer gave up in the middle of the check."""
    with pytest.raises(ConfigRefusal, match=r"with 5 realisations.* at least 6 realisations"):
        read_phantom(dataset, most_realisations=5)
    assert read_phantom(dataset, most_realisations=6).realisations == 6
