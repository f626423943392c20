"""One stored picture shows every window; a page keeps the slices that fit; figures are told in words."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By

from iscl_monai.report.budget import spread, within
from iscl_monai.report.levels import (
    LARGEST_GREY_ERROR,
    LEVELS_HU,
    difference_greys,
    difference_levels,
    greys,
    levels,
    noise_greys,
)
from iscl_monai.report.series import SeriesReport, write_series_report
from iscl_monai.report.verdict import NONE, of_frequency, of_noise, of_residual, of_score, of_shift
from iscl_monai.report.viewer import (
    BRAIN,
    LUNG,
    SOFT,
    WINDOWS,
    Pane,
    ViewedSlice,
    Viewer,
    Window,
    noise_pane,
    window_of_body,
)


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.key)
def test_a_window_of_the_stored_picture_is_that_of_the_image(window: Window) -> None:
    image_hu = np.linspace(-1024, 3000, 20_001, dtype=np.float32)
    exact = (window.window.to_network(image_hu) + 1) * 127.5
    shown = 255 * greys(window.window)[levels(image_hu)]
    assert np.abs(shown - exact).max() <= LARGEST_GREY_ERROR


def test_differences_are_kept_to_half_a_hounsfield_unit() -> None:
    difference_hu = np.linspace(-100, 100, 4001, dtype=np.float32)
    shown = difference_greys(100)[difference_levels(difference_hu)]
    np.testing.assert_allclose(200 * shown - 100, difference_hu, atol=0.501)
    assert list(difference_levels(np.array([-900, 0, 900]))) == [1, 128, 255]


def test_a_noise_map_shows_the_local_standard_deviation() -> None:
    image_hu = np.random.default_rng(1).normal(40, 20, (90, 90)).astype(np.float32)
    image_hu[:, 45:] = 40
    pane = noise_pane("Local noise", image_hu)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(pane.address.partition(",")[2]))))
    shown_hu = 50 * noise_greys(50)[picture]
    assert shown_hu.shape == (30, 30)
    assert shown_hu[:, :12].mean() == pytest.approx(20, abs=0.6)
    assert shown_hu[:, 17:].max() == 0


def test_levels_are_all_of_a_byte() -> None:
    assert len(LEVELS_HU) == 256
    assert (np.diff(LEVELS_HU) > 0).all()


def head_and_chest() -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.ogrid[-100:100, -100:100]
    away = np.hypot(rows, columns)
    head = np.where(away < 75, 35, np.where(away < 84, 1200, -1000)).astype(np.float32)
    chest = np.where(away < 60, -850, np.where(away < 90, 40, -1000)).astype(np.float32)
    return head, chest


def test_the_window_follows_the_body() -> None:
    head, chest = head_and_chest()
    belly = np.where(chest == -850, 50, chest)
    assert [window_of_body([one]) for one in (head, chest, belly, np.full_like(head, -1000))] == [
        BRAIN,
        LUNG,
        SOFT,
        SOFT,
    ]


def viewer(slices: int, size: int) -> Viewer:
    panes = [Pane(label="Before", kind="hu", address="x" * size)]
    return Viewer(name="v", slices=[ViewedSlice(name=str(index), panes=panes) for index in range(slices)])


@pytest.mark.parametrize(("most", "kept"), [(1000, [9, 9]), (60, [3, 3]), (59, [2, 2]), (20, [1, 1]), (15, [1, 0])])
def test_slices_are_thinned_evenly_until_they_fit(most: int, kept: list[int]) -> None:
    found = within([viewer(9, 10), viewer(9, 10)], most)
    assert [0 if one is None else len(one.slices) for one in found] == kept


def test_a_viewer_too_large_does_not_keep_out_those_after_it() -> None:
    assert [one is None for one in within([viewer(1, 50), viewer(1, 10)], 20)] == [True, False]
    assert within([], 5) == []


@pytest.mark.parametrize(("count", "wanted", "chosen"), [(9, 1, [4]), (9, 3, [1, 4, 7]), (2, 5, [0, 1])])
def test_slices_are_spread(count: int, wanted: int, chosen: list[int]) -> None:
    assert spread(count, wanted) == chosen


def test_noise_is_told_by_the_dose_that_it_would_take() -> None:
    assert of_noise(20, 10).tone == "pass"
    assert "4.0 times the dose" in of_noise(20, 10).reason
    assert of_noise(3.7, 3.7).tone == of_noise(20, 19, left_hu=11.3).tone == "look"
    assert of_noise(3.7, 3.7, left_hu=11.3).words == of_noise(12.3, 11.5, left_hu=11.3).words == "left alone"
    assert of_noise(3.7, 3.7, left_hu=0).words == "hardly anything removed", "all noise was to go"
    assert of_noise(9.6, 2.5).words == "more than dose would take"
    assert "15 times" in of_noise(9.6, 2.5).reason
    assert of_noise(20, 0).tone == of_noise(20, 19).tone == "look"
    assert of_noise(20, 10, uniform=False).words == "not judged"
    assert of_noise(math.nan, 1) == of_noise(0, 0) == NONE


def test_means_residuals_and_scores_are_told() -> None:
    assert [of_shift(shift).tone for shift in (0, -1.9, 3.9, -4.1)] == ["pass", "pass", "pass", "look"]
    assert [of_residual(one).tone for one in (0.02, 0.2, 0.5)] == ["pass", "", "look"]
    assert [of_frequency(0.3, one).tone for one in (0.3, 0.25, 0.2, 0.4)] == ["pass", "pass", "look", "look"]
    assert of_score(30, 32, higher=True, digits=1).words == "better than the input"
    assert of_score(20, 20, higher=False, digits=1).tone == "look"
    assert of_score(None, 3, higher=True, digits=1) == of_residual(math.nan) == of_shift(math.nan) == NONE


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> webdriver.Chrome:
    made = SeriesReport(name="S", count=3)
    body = head_and_chest()[1]
    for index in range(3):
        made.add(index, body + 10 * index, body)
    page = write_series_report(tmp_path_factory.mktemp("page") / "r.html", [made], made_with={})
    driver = opened(page)
    yield driver
    driver.quit()


def opened(page: Path) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1366,900"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options)
    driver.get(page.as_uri())
    return driver


def test_a_reader_scrolls_windows_and_compares(browser: webdriver.Chrome) -> None:
    shown = [one.text for one in browser.find_elements(By.CLASS_NAME, "which") if one.is_displayed()]
    assert shown == ["slice 2 of 3"]
    scroll = browser.find_element(By.CLASS_NAME, "scroll")
    scroll.send_keys("\ue014")  # arrow right
    shown = [one.text for one in browser.find_elements(By.CLASS_NAME, "which") if one.is_displayed()]
    assert shown == ["slice 3 of 3"]
    assert scroll.get_attribute("aria-valuetext") == "slice 3 of 3"

    button = browser.find_element(By.CSS_SELECTOR, "[data-window=bone]")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    figures = [one for one in browser.find_elements(By.TAG_NAME, "figure") if one.is_displayed()]
    assert [one.text for one in figures] == ["Before 400/2000 HU", "After 400/2000 HU", "Removed ±100 HU"]
    assert "#hu-bone" in figures[0].find_element(By.TAG_NAME, "img").value_of_css_property("filter")

    browser.find_element(By.CSS_SELECTOR, "[data-mode=slide]").click()
    assert [one.is_displayed() for one in figures] == [True, True, False]
    browser.find_element(By.CSS_SELECTOR, "[data-mode=blink]").click()
    assert sum(one.is_displayed() for one in figures) == 1
    browser.find_element(By.CSS_SELECTOR, "[data-mode=beside]").click()
    assert all(one.is_displayed() for one in figures)

    browser.find_element(By.CSS_SELECTOR, "[data-beside='noise after']").click()
    shown = [one.text for one in browser.find_elements(By.TAG_NAME, "figure") if one.is_displayed()]
    assert shown == ["Before 400/2000 HU", "After 400/2000 HU", "Local noise after 0 to 100 HU"]
    browser.find_element(By.CSS_SELECTOR, "[data-beside=removed]").click()
    assert browser.get_log("browser") == []
