from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report.valid_html import Elements, check_numbers, check_page

from iscl_monai.errors import ImageRefusal, Refusal
from iscl_monai.quality.fidelity import AIR_HU
from iscl_monai.quality.regions import REGIONS, RegionMeasurement
from iscl_monai.report.budget import MOST_PAGE_BYTES, MOST_PICTURE_BYTES, within
from iscl_monai.report.explained import explanations
from iscl_monai.report.levels import LEVELS_HU, levels
from iscl_monai.report.pages import DISCLAIMER
from iscl_monai.report.report_page import LEFT_OUT
from iscl_monai.report.series import SeriesReport, write_series_report
from iscl_monai.report.skipped import MOST_REASONS, skipped_section
from iscl_monai.report.viewer import WINDOWS, Pane

CLEAN = np.full((64, 80), -1000, dtype=np.float32)
CLEAN[8:56, 8:72] = 40
NOISE = np.random.default_rng(3).normal(0, 20, CLEAN.shape).astype(np.float32)
LINES = 2 * len(REGIONS)


class Page(Elements):
    """Keeps the addresses of a page's pictures, too."""

    def __init__(self, text: str) -> None:
        self.source = text
        self.words = re.sub(r'base64,[^"]*', "", text)
        self.addresses: list[str] = []
        self.links: list[str] = []
        super().__init__(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        self.addresses += [value for name, value in attrs if name == "src" and value]
        self.links += [value for name, value in attrs if name == "href" and value]

    def of(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]

    def pictures(self) -> list[np.ndarray]:
        encoded = [address.removeprefix("data:image/png;base64,") for address in self.addresses]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))) for picture in encoded]


def picture_of(pane: Pane) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(pane.address.partition(",")[2]))))


def before(index: int) -> np.ndarray:
    return CLEAN + index + (1 + index / 10) * NOISE


def after(index: int) -> np.ndarray:
    return CLEAN + index + 0.25 * NOISE


def report(name: str = "Series 2", count: int = 5, order: Sequence[int] | None = None, **more: str) -> SeriesReport:
    made = SeriesReport(name=name, count=count, **more)
    for index in range(count) if order is None else order:
        made.add(index, before(index), after(index))
    return made


def written(folder: Path, *reports: SeriesReport, skipped: Sequence[tuple[str, str]] = (), summary: str = "") -> Page:
    path = write_series_report(
        folder / "new" / "report.html", reports, made_with={"seed": "7"}, skipped=skipped, summary=summary
    )
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["report.html", "report.json"]
    text = path.read_text(encoding="utf-8")
    check_page(text, scripts=text.count("<script>"))
    return Page(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("count", "shown"), [(1, [0]), (2, [0, 1]), (5, range(5)), (12, range(12)), (36, range(1, 36, 3))]
)
def test_at_most_twelve_slices_evenly_spread_are_shown(count: int, shown: Sequence[int]) -> None:
    made = SeriesReport(name="S", count=count)
    small = np.zeros((4, 4), dtype=np.float32)
    for index in reversed(range(count)):
        made.add(index, small + index, small - index)
    slices = made.case().viewer.slices
    assert [one.name for one in slices] == [f"slice {index + 1} of {count}" for index in shown]
    for index, one in zip(shown, slices, strict=True):
        before, after, removed = map(picture_of, one.panes[:3])
        assert (LEVELS_HU[before[0, 0]], LEVELS_HU[after[0, 0]]) == (
            index,
            -index if index <= 20 else pytest.approx(-index, abs=2),
        )
        assert removed[0, 0] == 128 + 2 * index


def test_a_case_carries_the_numbers_of_all_slices() -> None:
    shown = report(note="kernel B30f").case()
    regions = RegionMeasurement()
    for index in range(5):
        regions.add(before(index), after(index))
    soft = next(result for result in regions.results() if result.name == "soft tissue")
    rows = {row.name: row for row in shown.rows}
    assert len(rows) == LINES
    noise, mean = rows["Local noise, soft tissue"], rows["Mean, soft tissue"]
    assert (noise.noisy, noise.denoised, noise.better) == (soft.sigma_before_hu, soft.sigma_after_hu, "lower")
    assert (mean.noisy, mean.denoised, mean.better) == (soft.mean_before_hu, soft.mean_after_hu, "unchanged")
    assert {(row.unit, row.protocol) for row in shown.rows} == {("HU", "regions")}
    assert shown.note == "kernel B30f. The table below is over 5 of 5 slices."


def test_the_order_of_slices_does_not_matter(tmp_path: Path) -> None:
    pages = [
        written(tmp_path / str(order[0]), report(order=order)).source for order in ([0, 1, 2, 3, 4], [3, 0, 4, 2, 1])
    ]
    assert pages[0] == pages[1]


def test_arrays_may_be_used_again() -> None:
    made, buffer = SeriesReport(name="S", count=1), before(0)
    made.add(0, buffer, buffer)
    buffer[:] = 0
    np.testing.assert_array_equal(picture_of(made.case().viewer.slices[0].panes[0]), levels(before(0)))


@pytest.mark.parametrize("index", [-1, 5, 2])
def test_a_slice_that_is_not_there_or_comes_twice_is_refused(index: int) -> None:
    with pytest.raises(Refusal, match="each slice once"):
        report(order=[2]).add(index, before(0), after(0))


def test_a_refused_slice_is_not_counted() -> None:
    made = report(order=[2])
    with pytest.raises(ImageRefusal):
        made.add(1, before(1), after(1)[1:])
    made.add(1, before(1), after(1))
    assert "2 of 5 slices" in made.case().note


def test_a_series_of_no_slices_is_refused() -> None:
    with pytest.raises(Refusal, match="0 slices in S"):
        SeriesReport(name="S", count=0)


def test_page_is_well_formed_offline_and_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert('&')</script>"
    page = written(
        tmp_path,
        report(hostile, note=hostile),
        report("second"),
        skipped=[(f"/in/{hostile}.dcm", hostile)],
        summary=hostile,
    )
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|url\((?!#)|@import", page.source)
    assert page.source.count("&lt;script&gt;") >= 5
    assert f"{DISCLAIMER}." in page.of("strong")
    assert page.source.count(DISCLAIMER) == 2


def test_every_window_is_named_and_has_a_filter(tmp_path: Path) -> None:
    source = written(tmp_path, report(count=1)).source
    for window in WINDOWS:
        assert f'data-image-caption="{window.image_caption}"' in source
        assert f'id="hu-{window.key}"' in source
        assert f'id="difference-{window.difference_hu:g}"' in source
        assert f'id="noise-{window.difference_hu:g}"' in source


def test_a_page_of_many_series_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 60_000
    monkeypatch.setattr("iscl_monai.report.report_page.within", lambda viewers: within(viewers, most))
    page = written(tmp_path, *(report(f"S{number}") for number in range(6)))
    pictures = sum(len(address) for address in page.addresses)
    assert most / 2 < pictures <= most
    assert LEFT_OUT in page.source
    assert page.source.count("<h2>S") == 6
    assert MOST_PICTURE_BYTES < MOST_PAGE_BYTES == 5_000_000


def test_each_series_has_one_table_and_the_overview_one_line(tmp_path: Path) -> None:
    alone = written(tmp_path / "1", report())
    assert alone.tags.count("table") == 1
    assert "Cases shown" not in alone.source
    page = written(tmp_path / "2", report("first"), report("second"))
    assert page.tags.count("table") == 3
    overview = page.source.split("<section>")[0]
    assert re.findall(r'<th scope="row">(.*?)</th>', overview) == ["first", "second"]
    assert "Local noise, soft tissue" in overview
    assert "Mean, soft tissue" not in overview
    assert "not measurable" not in overview


def test_what_is_not_there_is_not_measurable(tmp_path: Path) -> None:
    source = written(tmp_path, report()).source
    for name in ("Local noise, bone", "Mean, bone"):
        line = next(line for line in source.split("<tr>") if f">{name}<" in line)
        assert line.count("not measurable") == 2
    line = next(line for line in source.split("<tr>") if ">Mean, soft tissue<" in line)
    means = [float(number) for number in re.findall(r"<td[^>]*>(?:<strong>)?(\d+\.\d)", line)]
    assert means == pytest.approx([42, 42], abs=0.5)


def test_weights_that_leave_noise_on_purpose_leave_a_quiet_scan_alone(tmp_path: Path) -> None:
    for left_hu, words in ((None, "hardly anything removed"), (100.0, "left alone")):
        made = SeriesReport(name="S", count=1, left_hu=left_hu)
        made.add(0, before(0), before(0))
        source = written(tmp_path / words, made).source
        line = next(line for line in source.split("<tr>") if ">Local noise, soft tissue<" in line)
        assert words in line
    assert "as quiet as the 100.0 HU that are left on purpose" in line


@pytest.mark.parametrize("value_hu", [-1000, -3024, 64512])
def test_slices_of_nothing_but_air_or_padding_are_shown(tmp_path: Path, value_hu: float) -> None:
    made = SeriesReport(name="S", count=2)
    empty = np.full((32, 40), value_hu, dtype=np.float32)
    made.add(0, empty, empty, np.ones(empty.shape, dtype=bool))
    made.add(1, empty, empty)
    page = written(tmp_path, made)
    assert all((LEVELS_HU[picture] <= -1000).all() for picture in page.pictures()[0:2])
    assert page.source.count("not measurable") == 2 * LINES


def test_padding_is_black_and_removes_nothing(tmp_path: Path) -> None:
    made = SeriesReport(name="S", count=1)
    padded = CLEAN < 0
    made.add(0, np.where(padded, 60000, before(0)), np.where(padded, -60000, after(0)), padded)
    shown, _, removed = written(tmp_path, made).pictures()[:3]
    assert (shown[padded] == levels(np.array([AIR_HU]))).all()
    assert (removed[padded] == 128).all()


def test_skipped_files_are_grouped_and_counted(tmp_path: Path) -> None:
    skipped = [(f"/in/DOE JOHN/{index}.dcm", "localizer (scout)") for index in range(3000)]
    skipped += [("/in/DOE JOHN/notes.txt", "not a DICOM file")]
    page = written(tmp_path, report(), skipped=skipped)
    assert "3001 files skipped." in page.of("p")
    lines = [re.findall(r"<td.*?>(.*?)</td>", line) for line in page.source.split("Not denoised")[1].split("<tr>")[2:]]
    assert lines == [
        ["3000", "localizer (scout)", "0.dcm, 1.dcm, 2.dcm, …"],
        ["1", "not a DICOM file", "notes.txt"],
    ]
    assert "DOE" not in page.words


def test_refusals_of_many_files_make_one_group_without_names(tmp_path: Path) -> None:
    text = "{file}: {tag} is {found}; allowed: {found} as in /in/DOE JANE/first.dcm of the same series; do: take it out"
    skipped = []
    for index in range(6):
        file = f"/in/DOE JOHN/{index}.dcm"
        tag, found = ("PatientID", "DOE^J; 42") if index < 4 else ("PixelSpacing", "0.5\\0.5")
        skipped.append((file, text.format(file=file, tag=tag, found=found)))
    page = written(tmp_path, skipped=[*skipped, ("/in/DOE JANE/first.dcm", "/in/DOE JANE/first.dcm cannot be opened")])
    assert page.of("td")[0::3] == ["4", "2", "1"]
    assert page.of("td")[1::3] == [
        "PatientID is (not shown here); do: take it out",
        "PixelSpacing is 0.5\\0.5; allowed: 0.5\\0.5 as in first.dcm of the same series; do: take it out",
        "the file cannot be opened",
    ]
    assert "DOE" not in page.words


def test_a_thousand_reasons_do_not_make_a_thousand_lines(tmp_path: Path) -> None:
    page = written(tmp_path, skipped=[(f"{index}.dcm", f"reason {index}") for index in range(1000)])
    cells = page.of("td")
    assert len(cells) == 3 * (MOST_REASONS + 1)
    assert cells[-3:-1] == [str(1000 - MOST_REASONS), f"{1000 - MOST_REASONS} other reasons"]


def test_skipped_files_alone_make_a_report_and_nothing_makes_none(tmp_path: Path) -> None:
    page = written(tmp_path, SeriesReport(name="unseen", count=3), skipped=[("a", "not a DICOM file")])
    assert "1 file skipped." in page.of("p")
    assert "unseen" not in page.source
    assert "Regions are found" not in page.source
    with pytest.raises(Refusal, match="without slices"):
        write_series_report(tmp_path / "none.html", [SeriesReport(name="unseen", count=3)], made_with={})
    assert not (tmp_path / "none.html").exists()


def test_nothing_skipped_is_no_section(tmp_path: Path) -> None:
    assert skipped_section([]) is None
    assert "Not denoised" not in written(tmp_path, report()).source


def test_the_numbers_beside_the_page_are_those_of_the_page(tmp_path: Path) -> None:
    page = written(tmp_path, report("A"), report("B", order=[0]), skipped=[("in/scout.dcm", "a localizer")])
    content = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    assert [case["name"] for case in content["cases"]] == ["A", "B"]
    assert content["skipped"] == [{"files": 1, "reason": "a localizer", "such_as": "scout.dcm"}]
    assert content["made_with"] == {"seed": "7"}
    expected = [row for case in content["cases"] for row in case["rows"]]
    assert len(expected) == 2 * LINES
    check_numbers(page.source, expected)
    assert any(row["verdict"]["words"] == "more than dose would take" for row in expected)


def test_verdicts_lead_to_what_explains_them_on_the_page(tmp_path: Path) -> None:
    page = written(tmp_path, report())
    assert set(page.links) == {"#about-noise", "#about-shift"}
    assert page.of("h3") == [one.title for one in explanations(["noise", "shift"])]
