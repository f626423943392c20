"""What series are called: each of several can be told from the others, and no folder is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom.synthetic import Series, setting

from iscl_monai.dicom.headers import SliceHeader, read_header
from iscl_monai.inference.naming import folder_names, told_apart
from iscl_monai.inference.plan import plan


def header(folder: Path, description: str, **elements: object) -> SliceHeader:
    files = Series(description=description, slots=(0,), change=setting(**elements)).write(folder)
    found = read_header(files[0])
    assert isinstance(found, SliceHeader)
    return found


def test_a_title_of_its_own_stays(tmp_path: Path) -> None:
    one, other = header(tmp_path / "a", "Thorax"), header(tmp_path / "b", "")
    assert told_apart([one, other]) == ("", "")
    assert told_apart([one]) == ("",)


def test_body_part_and_kernel_tell_apart_and_else_a_number(tmp_path: Path) -> None:
    head, chest, again = (
        header(tmp_path / part, "", BodyPartExamined=part.upper()[:5], ConvolutionKernel=kernel)
        for part, kernel in (("head", "STD+"), ("chest", "LUNG"), ("chest_again", "LUNG"))
    )
    assert told_apart([head, chest, again]) == (" (HEAD, STD+)", " (CHEST, LUNG) no. 1", " (CHEST, LUNG) no. 2")


def test_a_folder_that_is_called_after_a_patient_is_not_named(tmp_path: Path) -> None:
    for name, uid in (("SMITH_JOHN", "1.2.3"), ("DOE_JANE", "1.2.4")):
        Series(description="", series_uid=uid, rows=40, columns=40).write(tmp_path / name)
    titles = [one.title for one in plan(tmp_path).series]
    assert len(set(titles)) == 2
    assert not any(name in title for title in titles for name in ("SMITH", "DOE"))
    assert folder_names(titles) == ("1_no_description_Br38f_3_no_1", "2_no_description_Br38f_3_no_2")


@pytest.mark.parametrize("titles", [["a"], ["a", "b"]])
def test_one_series_is_the_output_itself(titles: list[str]) -> None:
    assert folder_names(titles) == (("",) if len(titles) == 1 else ("1_a", "2_b"))
