"""One file decides everything, and says where it is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service import settings as module
from iscl_monai.service.settings import Settings
from iscl_monai.service.settings_description import describe
from iscl_monai.service.settings_file import read_settings

SAMPLE = Path(__file__).parents[2] / "deploy" / "node.toml"
GOOD = """
data = "/data"
bundle = "/bundle"
[[peers]]
name = "pacs"
ae_title = "ORTHANC"
host = "pacs"
port = 4242
[[rules]]
name = "all"
send_to = ["pacs"]
"""


def read(folder: Path, text: str) -> Settings:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigRefusal) as refused:
        read(folder, text)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_sample_is_good_and_shows_every_setting() -> None:
    assert read_settings(SAMPLE).rules
    text = SAMPLE.read_text(encoding="utf-8")
    models = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, BaseModel)]
    names = {name for model in models if model.__name__ in dir(module) for name in getattr(model, "model_fields", {})}
    lacking = [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)]
    assert not lacking


def test_the_defaults_in_the_sample_are_the_defaults(tmp_path: Path) -> None:
    """Taking the # away from a line that shows a default changes nothing."""
    text = SAMPLE.read_text(encoding="utf-8")
    usual = read_settings(SAMPLE)
    plain = {"disk", "retention", "work", "sending"}
    for section in plain:
        block = text[text.index(f"# [{section}]") :].split("\n\n")[0]
        uncommented = "\n".join(line.removeprefix("# ") for line in block.splitlines())
        read_back = read(tmp_path, text.replace(block, uncommented))
        assert getattr(read_back, section) == getattr(usual, section)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("port = 4242", "prot = 4242"), "did you mean port"),
        (("port = 4242", 'port = "x"'), "peers.1.port"),
        (("port = 4242", "port = 70000"), "65535"),
        (('ae_title = "ORTHANC"', 'ae_title = "A TITLE THAT IS TOO LONG"'), "1 to 16"),
        (('ae_title = "ORTHANC"', ""), "either an ae_title (DIMSE) or a url"),
        (('host = "pacs"\n', ""), "host and port belong together"),
        (('send_to = ["pacs"]', ""), "its results would go nowhere"),
        (('send_to = ["pacs"]', 'send_to = ["packs"]'), "sends to packs, which is no peer"),
        (("[[rules]]", "[[rules]]\nwhen = {Modalty = 'CT'}"), "did you mean Modality"),
        (("[[rules]]", "[[rules]]\nwhen = {Modality = '~('}"), "no regular expression"),
        (("[[rules]]", "[[rules]]\nwhen = {SliceThickness = '<thin'}"), "compares with no number"),
        (("[[rules]]", "[[rules]]\nstrength = 1.5"), "less than or equal to 1"),
        (("[[rules]]", "[web]\nhost = '0.0.0.0'\n[[rules]]"), "passwords would cross the network in clear"),
        (("[[rules]]", "[disk]\nreserve_mb = 10\nresume_mb = 5\n[[rules]]"), "resume_mb is less"),
        (("port = 4242", "port = 4242\ntls = true"), "needs [node.tls]"),
        (("port = 4242", 'port = 4242\nconfirm = "query"'), "by DICOMweb only"),
        (("data =", "data ="), ""),
    ],
)
def test_a_wrong_line_is_named_with_its_cure(change: tuple[str, str], expected: str, tmp_path: Path) -> None:
    if not expected:
        assert read(tmp_path, GOOD.replace(*change)).peer("pacs")
        return
    assert expected in refusal(tmp_path, GOOD.replace(*change, 1))


def test_names_are_unique(tmp_path: Path) -> None:
    twice = GOOD + '[[rules]]\nname = "all"\nsend_to = ["pacs"]\n'
    assert "two rules are called all" in refusal(tmp_path, twice)
    assert "no rules" in refusal(tmp_path, GOOD[: GOOD.index("[[rules]]")])


@pytest.mark.parametrize("content", [b"\xff\xfe", b"data = ", b""])
def test_a_file_that_is_no_toml_or_empty_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigRefusal):
        read_settings(path)
    with pytest.raises(ConfigRefusal):
        read_settings(tmp_path / "absent.toml")


def test_a_worker_gets_the_same_settings() -> None:
    usual: Any = read_settings(SAMPLE)
    assert Settings.model_validate_json(usual.model_dump_json()) == usual


def test_what_is_held_back_is_said_in_words(tmp_path: Path) -> None:
    plain, holding = (
        read(tmp_path, GOOD.replace("[[rules]]", f"[[rules]]\n{line}")) for line in ("", "hold_unlike = true")
    )
    assert not any("held back" in line for line in describe(plain))
    assert any("to pacs; held back if unlike the training" in line for line in describe(holding))


def test_what_they_mean_in_words() -> None:
    words = list(describe(read_settings(SAMPLE)))
    assert "listens as ISCL on 0.0.0.0:11112 (no TLS)" in words
    assert any("ImageType is LOCALIZER or DERIVED; after 30 s: nothing" in line for line in words)
