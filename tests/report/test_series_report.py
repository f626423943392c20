from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report.valid_html import Elements, check_page

from iscl_monai.errors import ImageRefusal, Refusal
from iscl_monai.quality.regions import REGIONS, RegionMeasurement
from iscl_monai.report.pages import DISCLAIMER
from iscl_monai.report.series import SeriesReport, write_series_report
from iscl_monai.report.skipped import MOST_REASONS, skipped_section

CLEAN = np.full((64, 80), -1000, dtype=np.float32)
CLEAN[8:56, 8:72] = 40
NOISE = np.random.default_rng(3).normal(0, 20, CLEAN.shape).astype(np.float32)
LINES = 2 * len(REGIONS)


class Page(Elements):
    """Keeps the addresses of a page's pictures, too."""

    def __init__(self, text: str) -> None:
        self.source = text
        self.addresses: list[str] = []
        super().__init__(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        self.addresses += [value for name, value in attrs if name in {"src", "href"} and value]

    def of(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]

    def pictures(self) -> list[np.ndarray]:
        encoded = [address.removeprefix("data:image/png;base64,") for address in self.addresses]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))) for picture in encoded]


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
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    check_page(path.read_text(encoding="utf-8"))
    return Page(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("count", "shown"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [1, 2, 3]), (5, [1, 2, 3]), (101, [25, 50, 75])]
)
def test_a_quarter_the_middle_and_three_quarters_are_shown(count: int, shown: list[int]) -> None:
    made = SeriesReport(name="S", count=count)
    small = np.zeros((4, 4), dtype=np.float32)
    for index in reversed(range(count)):
        made.add(index, small + index, small - index)
    cases = made.cases()
    assert [case.noisy_hu[0, 0] for case in cases] == shown
    assert [-case.denoised_hu[0, 0] for case in cases] == shown
    assert [case.name for case in cases] == [f"S, slice {index + 1} of {count}" for index in shown]


def test_only_the_first_case_carries_the_numbers_of_all_slices() -> None:
    first, *others = report(note="kernel B30f").cases()
    regions = RegionMeasurement()
    for index in range(5):
        regions.add(before(index), after(index))
    soft = next(result for result in regions.results() if result.name == "soft tissue")
    rows = {row.name: row for row in first.rows}
    assert len(rows) == LINES
    noise, mean = rows["Local noise, soft tissue"], rows["Mean, soft tissue"]
    assert (noise.noisy, noise.denoised, noise.better) == (soft.sigma_before_hu, soft.sigma_after_hu, "lower")
    assert (mean.noisy, mean.denoised, mean.better) == (soft.mean_before_hu, soft.mean_after_hu, "unchanged")
    assert {(row.unit, row.protocol) for row in first.rows} == {("HU", "regions")}
    assert first.note == "kernel B30f. The table below is over 5 of 5 slices."
    assert not any(case.rows or case.note for case in others)


def test_the_order_of_slices_does_not_matter(tmp_path: Path) -> None:
    pages = [
        written(tmp_path / str(order[0]), report(order=order)).source for order in ([0, 1, 2, 3, 4], [3, 0, 4, 2, 1])
    ]
    assert pages[0] == pages[1]


def test_arrays_may_be_used_again() -> None:
    made, buffer = SeriesReport(name="S", count=1), before(0)
    made.add(0, buffer, buffer)
    buffer[:] = 0
    np.testing.assert_array_equal(made.cases()[0].noisy_hu, before(0))


@pytest.mark.parametrize("index", [-1, 5, 2])
def test_a_slice_that_is_not_there_or_comes_twice_is_refused(index: int) -> None:
    with pytest.raises(Refusal, match="each slice once"):
        report(order=[2]).add(index, before(0), after(0))


def test_a_refused_slice_is_not_counted() -> None:
    made = report(order=[2])
    with pytest.raises(ImageRefusal):
        made.add(1, before(1), after(1)[1:])
    made.add(1, before(1), after(1))
    assert "2 of 5 slices" in made.cases()[0].note


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
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", page.source)
    assert page.source.count("&lt;script&gt;") >= 5
    assert f"{DISCLAIMER}." in page.of("strong")
    assert page.source.count(DISCLAIMER) == 2


def test_pictures_stand_in_fixed_windows(tmp_path: Path) -> None:
    pictures = written(tmp_path, report(count=1)).pictures()
    assert len(pictures) == 12
    windows = [(-160, 240, 50), None, (0, 80, 20), (-1350, 150, 100)]  # of before and after; half the difference's
    for row, window in enumerate(windows):
        shown = pictures[3 * row : 3 * row + 3]
        if window is None:
            assert [picture.shape for picture in shown] == [(16, 16)] * 3
            continue
        lower, upper, reach = window
        ranges = [(before(0), lower, upper), (after(0), lower, upper), (before(0) - after(0), -reach, reach)]
        for picture, (image_hu, low, high) in zip(shown, ranges, strict=True):
            np.testing.assert_allclose(picture, (image_hu.clip(low, high) - low) * 255 / (high - low), atol=0.51)


def test_windows_are_named_under_the_pictures(tmp_path: Path) -> None:
    source = written(tmp_path, report(count=1)).source
    for name in ("abdomen 40/400", "brain 40/80", "lung -600/1500", "±50 HU", "±20 HU", "±100 HU"):
        assert name in source


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
    means = [float(number) for number in re.findall(r"<td>(?:<strong>)?(\d+\.\d)", line)]
    assert means == pytest.approx([42, 42], abs=0.5)


@pytest.mark.parametrize("value_hu", [-1000, -3024, 64512])
def test_slices_of_nothing_but_air_or_padding_are_shown(tmp_path: Path, value_hu: float) -> None:
    made = SeriesReport(name="S", count=2)
    empty = np.full((32, 40), value_hu, dtype=np.float32)
    made.add(0, empty, empty, np.ones(empty.shape, dtype=bool))
    made.add(1, empty, empty)
    page = written(tmp_path, made)
    assert all((picture == 0).all() for picture in page.pictures()[0:2])
    assert page.source.count("not measurable") == 2 * LINES


def test_padding_is_black_and_removes_nothing(tmp_path: Path) -> None:
    made = SeriesReport(name="S", count=1)
    padded = CLEAN < 0
    made.add(0, np.where(padded, 60000, before(0)), np.where(padded, -60000, after(0)), padded)
    shown, _, removed, *_ = written(tmp_path, made).pictures()
    assert (shown[padded] == 0).all()
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
    assert "DOE" not in page.source


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
    assert "DOE" not in page.source


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
