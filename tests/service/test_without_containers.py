"""The page for a pair without containers: its settings are good, and its Orthanc is a real one that answers."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from dicom.orthanc import Dicom, running
from service.receiving import free_port

from iscl_monai.service.connect import connect
from iscl_monai.service.settings import Settings
from iscl_monai.service.settings_description import describe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/without-containers.md").read_text(encoding="utf-8")
IN_CONTAINER = json.loads((ROOT / "deploy/orthanc.json").read_text(encoding="utf-8"))


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def keys(configuration: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in configuration.items():
        if isinstance(value, dict) and name != "RegisteredUsers":
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def changed() -> set[str]:
    return set(re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE))


def test_every_key_that_changes_is_named_and_every_other_is_the_same() -> None:
    here, there = dict(keys(json.loads(block("json")))), dict(keys(IN_CONTAINER))
    assert set(there) <= set(here)
    differing = {key for key, value in here.items() if there.get(key) != value}
    assert differing <= changed()
    only_ports = {"HttpPort", "DicomPort", "DicomModalities.iscl.Port", "LuaScripts"}  # may change
    assert changed() == differing | only_ports
    stays = PAGE.split("These stay as they are:")[1].split("The whole file:")[0]
    named = {name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", stays)}
    assert named == {key.rpartition(".")[2] for key in set(here) - changed()}


def test_its_settings_are_good() -> None:
    settings = Settings.model_validate(tomllib.loads(block("toml")))
    assert any("peer pacs: ORTHANC at 127.0.0.1:4242" in line for line in describe(settings))


def test_its_orthanc_answers_the_node(tmp_path: Path) -> None:
    configuration = json.loads(block("json"))
    route = tmp_path / "route.lua"
    shutil.copyfile(ROOT / "deploy/route.lua", route)
    storage = {"StorageDirectory": str(tmp_path / "db"), "IndexDirectory": str(tmp_path / "db")}
    port = free_port()
    mine = {**configuration, **storage, "LuaScripts": [str(route)], "DicomPort": port, "AuthenticationEnabled": False}
    for name in ("HttpPort", "RegisteredUsers"):
        del mine[name]
    values = tomllib.loads(block("toml"))
    values["peers"][0]["port"] = port
    with running(tmp_path, Dicom(port=port, more=mine)):
        lines = list(connect(Settings.model_validate(values)))
    assert [well for well, _ in lines] == [True], lines


@pytest.mark.parametrize("word", ["ExecReload=/bin/kill -HUP $MAINPID", "RestartPreventExitStatus=2"])
def test_the_unit_knows_what_the_node_does(word: str) -> None:
    assert word in block("ini")
