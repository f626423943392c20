"""Each file of a series is opened once for its header and once for all of it, whatever else is asked for."""

from __future__ import annotations

from pathlib import Path

from dicom.synthetic import Series
from inference.tiny import make_bundle
from opens import opens


def test_every_source_file_is_opened_at_most_twice(tmp_path: Path) -> None:
    source = tmp_path / "in"
    Series(rows=32, columns=32, description="one").write(source / "one")
    Series(rows=32, columns=32, description="two", rle=True, slots=range(3)).write(source / "two")
    (source / "notes.txt").write_text("not a DICOM file")
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "models" / "training.json").write_text('{"noise": {"noise": [1, 2]}}')  # each series is judged, too
    words = ["--bundle", bundle, "--device", "cpu"]
    plain, full, alone = opens(
        source,
        "iscl_monai.cli:app",
        ["denoise", source, tmp_path / "plain", *words],
        ["denoise", source, tmp_path / "full", *words, "--report", "--save-residual"],
        ["denoise", source / "one" / "slice000", tmp_path / "alone.dcm", *words],
    )
    assert plain.pop("notes.txt") <= 2
    assert list(plain.values()) == [2] * 8
    assert full.pop("notes.txt") <= 2
    assert full == plain
    assert alone == {"one/slice000": 2}
