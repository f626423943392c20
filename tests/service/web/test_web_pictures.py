"""Pictures show what the files hold, in the patient's order, to those who may see them."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom.multiframe import Enhanced
from dicom.synthetic import Series, setting
from PIL import Image
from service.web.plant import Plant

from iscl_monai.service.database.rows import JobRow
from iscl_monai.service.database.tables import jobs
from iscl_monai.service.web.pairs import Pairs
from iscl_monai.service.web.pictures import WINDOWS, difference_levels, palette


def shown(plant: Plant, job: int, number: int, what: str, window: str = "abdomen") -> np.ndarray:
    answer = plant.client("viewer").get(f"/jobs/{job}/slices/{number}/{what}.png?window={window}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize(("name", "black", "white"), [("brain", 0, 80), ("abdomen", -160, 240), ("lung", -1350, 150)])
def test_windows_are_what_they_are_called(name: str, black: float, white: float) -> None:
    grey = WINDOWS[name].grey(np.array([[black - 1, black, (black + white) / 2, white, white + 1]], np.float32))
    assert grey.tolist()[0][0] == grey.tolist()[0][1] == 0
    assert grey.tolist()[0][2] in (127, 128)
    assert grey.tolist()[0][3:] == [255, 255]


def test_difference_is_after_minus_before() -> None:
    before = np.zeros((1, 5), np.float32)
    after = np.array([[-80, -50, 0, 50, 80]], np.float32)
    assert difference_levels(before, after).tolist() == [[0, 1, 128, 255, 255]]
    colours = np.frombuffer(palette(), np.uint8).reshape(256, 3)
    assert colours[128].tolist() == [0, 0, 0]
    assert colours[1][2] > colours[1][0]  # lower is blue
    assert colours[255][0] > colours[255][2]  # higher is orange


def test_pictures_hold_the_pixels_of_their_files(plant: Plant) -> None:
    scan = Series(rows=16, columns=16, order=[3, 1, 4, 0, 2])  # neither names nor numbers follow the position
    job = plant.settled(plant.send(scan.write(plant.folder / "scan")))
    plant.worked(job, smooth=lambda hu: hu + 25)
    hu = scan.hu()
    for number in range(1, 6):
        expected = WINDOWS["abdomen"].grey(hu[number - 1])
        assert np.array_equal(shown(plant, job, number, "before"), expected)
        assert np.array_equal(shown(plant, job, number, "after"), WINDOWS["abdomen"].grey(hu[number - 1] + 25))
        assert np.unique(shown(plant, job, number, "difference")).tolist() == [192]  # 128 + 25 * 127 / 50, rounded
    assert not np.array_equal(shown(plant, job, 1, "before", "lung"), shown(plant, job, 1, "before"))


def test_only_jobs_that_succeeded_have_pictures(plant: Plant) -> None:
    job = plant.settled(plant.synthetic())
    client = plant.client("viewer")
    address = f"/jobs/{job}/slices/1/before.png"
    assert client.get(address).status_code == 404
    plant.worked(job)
    assert client.get(address).status_code == 200
    assert client.get("/jobs/1/slices/6/before.png").status_code == 404
    with plant.store.writing() as change:
        change.execute(jobs.update().values(folder=None))
    assert client.get(address).status_code == 404


@pytest.mark.parametrize(
    ("body_part", "window"), [("HEAD", "brain"), ("CHEST", "lung"), ("ABDOMEN", "abdomen"), ("", "abdomen")]
)
def test_the_window_suits_the_body_part_until_one_is_chosen(plant: Plant, body_part: str, window: str) -> None:
    series_id = plant.synthetic(change=setting(BodyPartExamined=body_part))
    plant.done(series_id)
    client = plant.client("viewer")
    assert f'value="{window}" checked' in client.get(f"/series/{series_id}").text
    assert 'value="lung" checked' in client.get(f"/series/{series_id}?window=lung").text


def test_files_that_are_gone_or_broken_are_404(plant: Plant) -> None:
    job = plant.done(plant.synthetic())
    client = plant.client("viewer")
    assert client.get(f"/jobs/{job}/slices/1/before.png").status_code == 200
    folder = plant.store.data / plant.job(job)["folder"]
    sorted(folder.iterdir())[1].write_bytes(b"broken")
    assert len(Pairs(plant.store).of_job(JobRow(**plant.job(job)))) == 4
    assert client.get(f"/jobs/{job}/slices/2/after.png").status_code == 404
    shutil.rmtree(folder)
    assert client.get(f"/jobs/{job}/slices/3/after.png").status_code == 404


def test_pictures_are_kept_by_the_browser_but_asked_for_anew(plant: Plant) -> None:
    job = plant.done(plant.synthetic())
    client = plant.client("viewer")
    address = f"/jobs/{job}/slices/1/before.png"
    first = client.get(address)
    assert first.headers["cache-control"] == "private, no-cache"
    tag = {"if-none-match": first.headers["etag"]}
    assert client.get(address, headers=tag).status_code == 304
    assert client.get(f"{address}?window=lung", headers=tag).status_code == 200
    assert plant.client().get(address, headers=tag).status_code == 303  # not even that much to nobody


def test_derived_files_without_a_source_of_the_job_are_left_out(plant: Plant) -> None:
    first, second = plant.done(plant.synthetic()), plant.done(plant.synthetic(seed=1))
    stranger = next((plant.store.data / plant.job(second)["folder"]).iterdir())
    shutil.copyfile(stranger, plant.store.data / plant.job(first)["folder"] / "zz.dcm")
    assert len(Pairs(plant.store).of_job(JobRow(**plant.job(first)))) == 5


def test_pairs_are_found_once(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    job = JobRow(**plant.job(plant.done(plant.synthetic())))
    pairs = Pairs(plant.store)
    found = pairs.of_job(job)
    monkeypatch.setattr(pairs, "_find_pairs", None)
    assert pairs.of_job(job) is found
    kept = pairs.slice_hu(job, 2)
    assert pairs.slice_hu(job, 2) is kept
    assert pairs.slice_hu(job, -1) is pairs.slice_hu(job, 5) is None


def test_memory_for_slices_is_bounded(plant: Plant) -> None:
    job = JobRow(**plant.job(plant.done(plant.synthetic(slots=range(20)))))
    pairs = Pairs(plant.store)
    for number in range(20):
        assert pairs.slice_hu(job, number) is not None
    assert len(pairs._slices._values) == 12


def test_frames_of_a_multi_frame_file_have_pictures(plant: Plant) -> None:
    scan = Enhanced(frames=4, rows=16, columns=16)
    job = plant.settled(plant.send([scan.write(plant.folder / "enhanced.dcm")]))
    plant.worked(job, smooth=lambda hu: hu + 25)
    hu = scan.stored().astype(np.float32) - 1024
    pictures = [shown(plant, job, number, "before", "lung") for number in range(1, 5)]
    expected = [WINDOWS["lung"].grey(frame) for frame in hu]
    assert sorted(map(np.ndarray.tobytes, pictures)) == sorted(map(np.ndarray.tobytes, expected))
    for number in range(1, 5):
        assert 192 in np.unique(shown(plant, job, number, "difference"))


def test_work_done_anew_has_other_pictures(plant: Plant) -> None:
    """Whatever a browser has kept of the first run, at any moment of the second."""
    job = plant.settled(plant.synthetic())
    plant.worked(job, smooth=lambda hu: hu + 25)
    client, address = plant.client("viewer"), f"/jobs/{job}/slices/1/after.png"
    tags = [client.get(address).headers["etag"]]
    plant.move_job(job, "cancelled")
    plant.move_job(job, "queued", "running", claim="another")  # the old folder is still there
    tags.append(client.get(address).headers["etag"])
    made = plant.derive(job, lambda hu: hu + 75)
    plant.move_job(job, "sending", folder=str(Path(made[0].file).parent))
    answer = client.get(address, headers={"if-none-match": tags[1]})
    assert answer.status_code == 200
    assert tags == [tags[0]] * 2
    assert 255 in np.unique(shown(plant, job, 1, "difference"))
