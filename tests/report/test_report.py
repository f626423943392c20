from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report.valid_html import Elements, check_page

from iscl_monai import __version__
from iscl_monai.errors import ImageRefusal, Refusal
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.quality.noise import no_reference_panel
from iscl_monai.quality.protocol import HU_BODY, HU_FRAME
from iscl_monai.quality.regions import region_results
from iscl_monai.report.budget import within
from iscl_monai.report.levels import LEVELS_HU, difference_levels, levels
from iscl_monai.report.report_page import LEFT_OUT
from iscl_monai.report.write import (
    DISCLAIMER,
    MetricRow,
    ReportCase,
    metric_rows,
    provenance,
    write_report,
)

CLEAN = np.full((64, 80), -1000.0, dtype=np.float32)
CLEAN[8:56, 8:72] = 40
NOISY = CLEAN + np.random.default_rng(3).normal(0, 20, CLEAN.shape).astype(np.float32)
DENOISED = CLEAN + 0.25 * (NOISY - CLEAN)


def case(name: str = "thorax", *, reference: bool = True) -> ReportCase:
    scores = {"noisy": fidelity(NOISY, CLEAN).mean(), "denoised": fidelity(DENOISED, CLEAN).mean()}
    regions = region_results(NOISY[None], DENOISED[None])
    rows = metric_rows(no_reference_panel(NOISY, DENOISED), regions, **(scores if reference else {}))
    return ReportCase(name, NOISY, DENOISED, CLEAN if reference else None, rows)


class Page(Elements):
    """Keeps the addresses of a page's pictures, too."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.addresses: list[str] = []
        self.links: list[str] = []
        super().__init__(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        self.addresses += [value for name, value in attrs if name == "src" and value]
        self.links += [value for name, value in attrs if name == "href" and value]

    def pictures(self) -> list[np.ndarray]:
        encoded = [address.removeprefix("data:image/png;base64,") for address in self.addresses]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))) for picture in encoded]


def written(folder: Path, *cases: ReportCase, **more: str) -> Page:
    path = write_report(folder / "new" / "report.html", title="A & B", cases=cases, made_with={"seed": "7"}, **more)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    check_page(path.read_text(encoding="utf-8"), scripts=1)
    return Page(path.read_text(encoding="utf-8"))


def test_page_is_self_contained_and_well_formed(tmp_path: Path) -> None:
    page = written(tmp_path, case(), case("second", reference=False), summary="One <of> many")
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"link", "iframe"} & set(page.tags)
    assert not re.search(r"https?:|url\((?!#)|@import", page.text)
    assert f"{DISCLAIMER}." in page.text
    assert "prefers-color-scheme: dark" in page.text
    assert "One &lt;of&gt; many" in page.text
    assert "<h1>A &amp; B</h1>" in page.text


def test_each_picture_is_stored_once_and_differences_are_exact(tmp_path: Path) -> None:
    before, after, reference, removed, error, *_ = written(tmp_path, case()).pictures()
    for picture, image_hu in ((before, NOISY), (after, DENOISED), (reference, CLEAN)):
        np.testing.assert_array_equal(picture, levels(image_hu))
    np.testing.assert_allclose(LEVELS_HU[after[8:56, 8:72]], DENOISED[8:56, 8:72], atol=0.51)
    np.testing.assert_array_equal(removed, difference_levels(NOISY - DENOISED))
    np.testing.assert_array_equal(error, difference_levels(DENOISED - CLEAN))


def test_without_reference_no_picture_and_no_number_needs_one(tmp_path: Path) -> None:
    page = written(tmp_path, case(reference=False))
    assert len(page.pictures()) == 5
    assert "Reference" not in page.text
    assert "PSNR" not in page.text


def test_pictures_that_do_not_fit_are_left_out_and_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1.5 * sum(len(picture) for picture in written(tmp_path / "all", case()).addresses)
    monkeypatch.setattr("iscl_monai.report.report_page.within", lambda viewers: within(viewers, int(size)))
    page = written(tmp_path / "some", case("first"), case("second"))
    assert len(page.pictures()) == 7
    assert page.text.count(LEFT_OUT) == 1
    assert page.text.index(LEFT_OUT) > page.text.index("second")


def test_numbers_stand_beside_the_noisy_input_with_their_protocol(tmp_path: Path) -> None:
    text = written(tmp_path, case()).text
    psnr = [fidelity(image, CLEAN).mean().psnr_db for image in (NOISY, DENOISED)]
    line = next(line for line in text.split("<tr>") if ">PSNR<" in line)
    assert re.findall(r"\d+\.\d+", line)[:2] == [f"{value:.2f}" for value in psnr]
    assert HU_BODY.identity in line
    noise = next(line for line in text.split("<tr>") if "Local noise, soft tissue" in line)
    assert "regions" in noise
    assert "as more dose would" not in noise  # 4 times less noise is that of 16 times the dose
    assert "more than dose would take" in noise


def test_overview_lists_every_case_once_there_are_two(tmp_path: Path) -> None:
    assert "Cases shown" not in written(tmp_path / "1", case()).text
    overview = written(tmp_path / "2", case("first"), case("se<cond", reference=False)).text.split("<section>")[0]
    assert "first" in overview
    assert "se&lt;cond" in overview
    assert "<td>\N{EN DASH}</td>" in overview


def test_a_number_that_cannot_be_told_is_not_made_up(tmp_path: Path) -> None:
    rows = (MetricRow("a", "", None, float("nan"), "p"), MetricRow("b", "HU", float("inf"), -2.0, "p"))
    text = written(tmp_path, ReportCase("case", NOISY, DENOISED, rows=rows)).text
    assert "not measurable" in text
    assert "exact" in text
    assert "\N{MINUS SIGN}2.0" in text


def test_pictures_alone_make_a_report(tmp_path: Path) -> None:
    assert "<table>" not in written(tmp_path, *(ReportCase(name, NOISY, DENOISED) for name in "ab")).text


def test_provenance_names_versions_weights_and_seed(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    made_with = provenance(weights=weights, seed=3, trained_for="2 min")
    assert made_with["iscl-monai"] == __version__
    assert made_with["weights"] == f"model.pt, sha256 {hashlib.sha256(b'weights').hexdigest()}"
    assert made_with["seed"] == "3"
    assert made_with["trained for"] == "2 min"
    assert {"torch", "monai", "Python"} < set(made_with)
    path = write_report(tmp_path / "r.html", title="t", cases=[case()], made_with=made_with)
    assert hashlib.sha256(b"weights").hexdigest() in path.read_text(encoding="utf-8")


def test_a_new_report_replaces_the_old_one(tmp_path: Path) -> None:
    written(tmp_path, case("old name"))
    assert "old name" not in written(tmp_path, case("new name")).text


def test_a_score_without_its_input_is_refused() -> None:
    with pytest.raises(Refusal, match="only one"):
        metric_rows(no_reference_panel(NOISY, DENOISED), denoised=fidelity(DENOISED, CLEAN).mean())


def test_two_protocols_in_one_case_are_refused() -> None:
    frame = fidelity(NOISY, CLEAN, protocol=HU_FRAME).mean()
    with pytest.raises(Refusal, match="2 protocols"):
        metric_rows(no_reference_panel(NOISY, DENOISED), noisy=frame, denoised=fidelity(DENOISED, CLEAN).mean())


def test_two_protocols_in_two_cases_are_refused(tmp_path: Path) -> None:
    frame = fidelity(NOISY, CLEAN, protocol=HU_FRAME).mean()
    rows = metric_rows(no_reference_panel(NOISY, DENOISED), noisy=frame, denoised=frame)
    message = f"PSNR measured on {HU_BODY.identity} and, in case other, on {HU_FRAME.identity}"
    with pytest.raises(Refusal, match=message):
        written(tmp_path, case(), ReportCase("other", NOISY, DENOISED, CLEAN, rows))


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="without cases"):
        written(tmp_path)


@pytest.mark.parametrize("denoised", [DENOISED[1:], np.full_like(NOISY, np.nan)])
def test_pictures_that_do_not_belong_together_are_refused(denoised: np.ndarray) -> None:
    with pytest.raises(ImageRefusal):
        ReportCase("case", NOISY, denoised)


def test_volumes_are_not_pictures() -> None:
    with pytest.raises(ImageRefusal, match="choose one slice"):
        ReportCase("case", NOISY[None], DENOISED[None])
