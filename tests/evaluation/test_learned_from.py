"""What a benchmark says of each row's training: only rows trained in it are alike in that."""

from __future__ import annotations

import json
from pathlib import Path

from iscl_monai.evaluation.benchmark.learned_from import NOTHING, TUNED, UNKNOWN, learned_from
from iscl_monai.evaluation.benchmark.methods import BUNDLE, METHODS, Method, submission

THIS = "0123456789abcdef"


def bundle(folder: Path, record: object) -> Method:
    (folder / "models").mkdir(parents=True)
    if record is not None:
        (folder / "models" / "training.json").write_text(json.dumps(record), encoding="utf-8")
    return Method(name="mine", title="mine", kind=BUNDLE, source=str(folder))


def said(method: Method) -> str:
    return learned_from(method, steps=500, datalist_digest=THIS)


def test_rows_trained_here_saw_the_same_and_filters_nothing() -> None:
    known = {method.name: said(method) for method in METHODS}
    assert known["input"] == NOTHING
    assert known["bm3d"] == TUNED
    for name in ("iscl", "iscl-h", "noise2void", "twin"):
        assert known[name].startswith("this datalist")
        assert known[name].endswith("500 steps on the patches that all rows trained here saw")
    assert "pairs" in known["red-cnn"]
    assert "pairs" not in known["cyclegan"]


def test_a_bundle_says_whose_patients_it_saw(tmp_path: Path) -> None:
    patients = ["a", "b"]
    same = bundle(tmp_path / "same", {"patients": patients, "datalist_digest": THIS})
    other = bundle(tmp_path / "other", {"patients": patients[:1], "datalist_digest": "fe"})
    old = bundle(tmp_path / "old", {"patients": patients})
    silent = bundle(tmp_path / "silent", None)
    assert said(same) == "elsewhere, on 2 patients of this datalist; how long is not known"
    assert said(other) == "elsewhere, on 1 patient of another datalist (digest fe); how long is not known"
    assert said(old) == "elsewhere, on 2 patients; how long is not known"
    assert said(silent) == "elsewhere; the bundle does not say on what; how long is not known"


def test_of_functions_and_images_nothing_is_known(tmp_path: Path) -> None:
    assert said(submission(f"mine={tmp_path}")) == UNKNOWN
    assert said(submission("mine=file.py:function")) == UNKNOWN
