"""The pages in a real browser: they live, the slider moves, buttons work, and nobody sees what they may not."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom.orthanc import free_port
from dicom.synthetic import Series, setting
from PIL import Image
from service.web.conftest import add_people
from service.web.plant import PASSWORD, Plant
from sqlalchemy import select

from iscl_monai.service.database import tables
from iscl_monai.service.web.pictures import WINDOWS
from iscl_monai.service.web.server import WebServer

selenium = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
PATIENCE_S = 60
SIZE = 64


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    for path in (BROWSER, DRIVER):
        if not path.exists():
            message = f"{path} is not installed"
            pytest.fail(message) if os.environ.get("CI", "").lower() == "true" else pytest.skip(message)
    profile = tempfile.mkdtemp()
    options = selenium.ChromeOptions()
    options.binary_location = str(BROWSER)
    for one in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync"):
        options.add_argument(f"--{one}")
    for one in ("disable-component-update", "no-first-run", "hide-scrollbars", f"user-data-dir={profile}"):
        options.add_argument(f"--{one}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(str(DRIVER)))
    driver.set_window_size(1366, 900)
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, digest: str) -> Iterator[Plant]:
    plant = add_people(Plant(tmp_path_factory.mktemp("served")), digest).with_web(port=free_port())
    server = WebServer(plant.settings, plant.app)
    server.start()
    yield plant
    server.stop()


class Browser:
    """Somebody before a screen."""

    def __init__(self, driver: Any, plant: Plant) -> None:
        self.driver = driver
        self.root = f"http://127.0.0.1:{plant.settings.web.port}"

    def goes(self, path: str) -> None:
        self.driver.get(self.root + path)

    def waits(self, until: Callable[[Any], Any]) -> Any:
        return WebDriverWait(self.driver, PATIENCE_S, poll_frequency=0.05).until(until)

    def logs_in(self, role: str) -> None:
        self.driver.delete_all_cookies()
        self.goes("/login")
        self.one("[name=name]").send_keys(role)
        self.one("[name=password]").send_keys(PASSWORD + Keys.ENTER)
        self.waits(lambda _: self.all("#queue"))

    def one(self, css: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, css))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    @property
    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def picture(self, css: str) -> np.ndarray:
        """Pixels of an element as they are on the screen."""
        self.run("arguments[0].scrollIntoView({block: 'center'})", self.one(css))
        return np.asarray(Image.open(io.BytesIO(self.one(css).screenshot_as_png)).convert("L")).astype(int)


@pytest.fixture
def browser(chromium: Any, served: Plant) -> Iterator[Browser]:
    chromium.get_log("browser")
    yield Browser(chromium, served)
    complaints = [one["message"] for one in chromium.get_log("browser") if "favicon" not in one["message"]]
    refused = [one for one in complaints if "Content Security Policy" in one or "Uncaught" in one]
    assert not refused


def of_grey(plant: Plant, *hu: int) -> int:
    """A series whose slices are each of one value; what is made of it is 150 HU brighter."""
    index = iter(range(len(hu)))

    def change(dataset: Any, _: int) -> None:
        dataset.PixelData = np.full((SIZE, SIZE), hu[next(index)] + 1024, np.uint16).tobytes()

    files = Series(slots=range(len(hu)), rows=SIZE, columns=SIZE, change=change).write(plant.folder / f"grey{hu}")
    series = plant.send(files)
    job = plant.settled(series)
    plant.worked(job, smooth=lambda values: values + 150)
    plant.delivered(job)
    return series


def grey_of(hu: float, window: str = "abdomen") -> int:
    return int(WINDOWS[window].grey(np.array([[hu]], np.float32))[0, 0])


def test_series_appears_and_changes_without_a_reload(browser: Browser, served: Plant) -> None:
    browser.logs_in("viewer")
    browser.run("window.stayed = true")
    series = served.synthetic(description="Thorax live <b>")

    def text_of(of: str) -> str:
        """In one go, for the part may be exchanged at any moment."""
        script = "const found = document.querySelector(arguments[0]); return found ? found.innerText : ''"
        return str(browser.run(script, f"tr:has(#series-{series}) {of}"))

    browser.waits(lambda _: text_of(".state") == "receiving")
    assert "Thorax live <b>" in text_of("th")
    job = served.settled(series)
    browser.waits(lambda _: text_of(".state") == "queued")
    served.move_job(job, "running")
    browser.waits(lambda _: text_of(".state") == "running")
    assert browser.run("return window.stayed")


def test_slices_windows_and_slider_change_the_picture(browser: Browser, served: Plant) -> None:
    series = of_grey(served, -100, 0, 60)
    browser.logs_in("viewer")
    browser.goes(f"/series/{series}")
    viewer = "document.querySelector('form.viewer')"
    browser.waits(lambda _: browser.run(f"return {viewer}.classList.contains('live')"))

    def middle(what: str) -> int:
        pixels = browser.picture(f"img[data-what={what}]")
        return int(pixels[pixels.shape[0] // 2, pixels.shape[1] // 2])

    browser.waits(lambda _: abs(middle("before") - grey_of(0)) <= 1)
    browser.waits(lambda _: abs(middle("after") - grey_of(150)) <= 1)
    browser.one(".pictures").send_keys(Keys.ARROW_DOWN)
    browser.waits(lambda _: browser.run(f"return {viewer}.dataset.shown") == "3")
    browser.waits(lambda _: abs(middle("before") - grey_of(60)) <= 1)
    assert browser.one("output").text == "3 / 3"
    assert "slice=3" in browser.driver.current_url
    browser.run("document.querySelector('[name=window][value=lung]').click()")
    browser.waits(lambda _: abs(middle("before") - grey_of(60, "lung")) <= 1)
    browser.run("document.querySelector('[name=window][value=abdomen]').click()")
    browser.waits(lambda _: abs(middle("before") - grey_of(60)) <= 1)


def test_divider_clips_the_upper_picture(browser: Browser, served: Plant) -> None:
    series = of_grey(served, -50)
    browser.logs_in("viewer")
    browser.goes(f"/series/{series}")
    browser.waits(lambda _: browser.run("return document.querySelector('form.viewer').classList.contains('live')"))
    browser.run("document.querySelector('[name=layout][value=over]').click()")
    before, after = grey_of(-50), grey_of(100)

    def share_of_before() -> float:
        """On the screen, of a line across the picture."""
        pixels = browser.picture(".pair")
        line = pixels[pixels.shape[0] // 3, 3:-3]
        return float(np.mean(np.abs(line - before) < np.abs(line - after)))

    assert abs(share_of_before() - 0.5) < 0.03
    divider = browser.one(".divider")
    divider.send_keys(Keys.HOME)
    assert share_of_before() < 0.03
    for _ in range(40):
        divider.send_keys(Keys.ARROW_RIGHT)
    assert abs(share_of_before() - 0.2) < 0.03
    divider.send_keys(Keys.END)
    assert share_of_before() > 0.97
    assert browser.one("output").text == "1 / 1"  # the keys of the divider are its own


def test_operator_retries_a_failed_job(browser: Browser, served: Plant) -> None:
    job = served.settled(served.synthetic())
    served.move_job(job, "running", "failed", reason="a fault of ours")
    browser.logs_in("operator")
    assert "a fault of ours" in browser.text
    browser.one(f"#retry-{job}").click()
    browser.waits(lambda _: served.job(job)["state"] == "queued")
    browser.waits(lambda _: not browser.all(f"#retry-{job}"))


def test_times_are_those_of_whoever_looks(browser: Browser, served: Plant) -> None:
    series = served.synthetic()
    first_at = datetime.fromisoformat(served.store.values(select(tables.series.c.first_at))[-1])
    browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"})
    try:
        browser.logs_in("viewer")
        browser.goes("/")
        shown = f"{first_at + timedelta(hours=9):%Y-%m-%d %H:%M:%S}"
        browser.waits(lambda _: shown in browser.text)
        assert "times are Asia/Tokyo" in browser.text
        browser.run("window.stayed = true")
        job = served.settled(series)
        served.move_job(job, "running", progress={"done": 2, "of": 9, "left_s": 30})
        browser.waits(lambda _: "2 of 9 slices, about 30 s left" in browser.text)  # the part was exchanged
        browser.waits(lambda _: shown in browser.text)
        assert browser.run("return window.stayed")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_operator_pauses_a_destination_and_is_asked_before_a_job_is_cancelled(browser: Browser, served: Plant) -> None:
    browser.logs_in("operator")
    browser.goes("/destinations")
    browser.one("#pause-pacs").click()
    browser.waits(lambda _: browser.all("#resume-pacs"))
    assert "by operator since" in browser.text
    browser.one("#resume-pacs").click()
    browser.waits(lambda _: browser.all("#pause-pacs"))
    job = served.settled(served.synthetic())
    browser.goes("/")
    browser.one(f"#cancel-{job}").click()
    browser.waits(lambda _: f"Cancel job {job}?" in browser.text)
    assert served.job(job)["state"] == "queued"
    browser.one("#sure").click()
    browser.waits(lambda _: served.job(job)["state"] == "cancelled")


def test_viewer_has_no_button_and_a_forged_form_is_refused(browser: Browser, served: Plant) -> None:
    series = served.synthetic()
    job = served.settled(series)
    served.move_job(job, "running", "failed", reason="it broke")
    browser.logs_in("viewer")
    assert not browser.all(f"#retry-{job}")
    browser.goes(f"/series/{series}")
    assert not browser.all("#retry, #cancel, #process, #reveal")
    post = """const done = arguments[arguments.length - 1];
        fetch(arguments[0], {method: 'POST', body: new URLSearchParams(arguments[1])}).then(a => done(a.status))"""
    token = browser.one("[name=csrf]").get_attribute("value")
    asked = browser.driver.execute_async_script
    assert asked(post, f"/jobs/{job}/retry", {"csrf": token}) == 403  # the role
    browser.logs_in("operator")
    assert asked(post, f"/jobs/{job}/retry", {"csrf": token}) == 403  # a token of another session
    assert asked(post, f"/jobs/{job}/retry", {}) == 403
    assert served.job(job)["state"] == "failed"


def test_form_of_another_site_changes_nothing(browser: Browser, served: Plant, tmp_path: Path) -> None:
    job = served.settled(served.synthetic())
    served.move_job(job, "running", "failed", reason="it broke")
    browser.logs_in("operator")
    token = browser.one("[name=csrf]").get_attribute("value")  # even if it were known there
    address = f"{browser.root}/jobs/{job}/retry"
    page = tmp_path / "evil.html"
    page.write_text(f'<form method=post action="{address}"><input name=csrf value="{token}"></form>')
    browser.driver.get(page.as_uri())
    browser.run("document.forms[0].submit()")
    browser.waits(lambda driver: driver.current_url == address)
    assert served.job(job)["state"] == "failed"


def test_name_is_hidden_and_shown_to_whoever_may(browser: Browser, served: Plant) -> None:
    series = served.synthetic(change=setting(PatientName="Mustermann^Erika", PatientBirthDate="19600229"))
    served.done(series)
    browser.logs_in("operator")
    browser.goes(f"/series/{series}")
    assert "Mustermann" not in browser.driver.page_source
    browser.waits(lambda _: browser.run("return Boolean(window.htmx)"))
    browser.one("#reveal").click()
    browser.waits(lambda _: "Mustermann, Erika" in browser.text)
    assert "1960-02-29" in browser.text
    assert ("operator", "reveal patient", f"series {series}") in served.audited()
    browser.goes(f"/series/{series}")
    assert "Mustermann" not in browser.driver.page_source


def test_everything_can_be_reached_by_keyboard(browser: Browser, served: Plant) -> None:
    series = served.synthetic()
    served.done(series)
    browser.logs_in("operator")
    browser.goes(f"/series/{series}")
    reached = set()
    for _ in range(40):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.driver.switch_to.active_element
        reached.add(active.get_attribute("id") or active.get_attribute("name") or active.get_attribute("class"))
    assert {"reveal", "process", "window", "slice", "pictures"} <= reached


@pytest.mark.parametrize("width", [390, 1366, 1920])
def test_nothing_is_wider_than_the_screen(browser: Browser, served: Plant, width: int) -> None:
    series = served.synthetic(description="a description that is long and does not end soon at all")
    served.done(series)
    browser.logs_in("admin")
    emulate = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", emulate)
    try:
        for path in ("/", f"/series/{series}", "/destinations", "/rules", "/refusals", "/audit", "/users", "/account"):
            browser.goes(path)
            assert browser.run("return document.documentElement.scrollWidth") <= width, path
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
