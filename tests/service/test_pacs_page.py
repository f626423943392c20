"""What the page for PACS administrators tells is so: settings, states, numbers, commands, certificates."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from dicom.validators import tool
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from service.web.conftest import digest, plant  # noqa: F401 - fixtures
from service.web.plant import Plant
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.service.database.migrate import migrate
from iscl_monai.service.database.states import MACHINES
from iscl_monai.service.database.store import DATABASE
from iscl_monai.service.dicom_settings import TLS
from iscl_monai.service.rules import RULE_TAGS
from iscl_monai.service.settings import Settings
from iscl_monai.service.settings_description import describe
from iscl_monai.service.tls import client_context, server_context

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACS = (ROOT / "docs/how-to/pacs.md").read_text(encoding="utf-8")
CONFORMANCE = (ROOT / "docs/conformance.md").read_text(encoding="utf-8")
PROSE = PACS + CONFORMANCE + (ROOT / "docs/decisions/0009-node.md").read_text(encoding="utf-8")
ROWS = {"series": "series", "jobs": "job", "deliveries": "delivery", "commitments": "commitment"}
SECTIONS = {"node", "disk", "retention", "work", "sending", "web", "notify"}


def blocks(kind: str) -> list[str]:
    """Fenced texts of a kind. All fences are found: the end of one shall not be taken for the beginning of another."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PACS, re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language == kind]


def block_with(kind: str, word: str) -> str:
    (found,) = [one for one in blocks(kind) if word in one]
    return found


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


@pytest.mark.parametrize("snippet", blocks("toml"), ids=lambda text: text.split("\n")[0])
def test_each_piece_of_settings_is_good(snippet: str) -> None:
    """Pieces are put into a small file, as a reader would."""
    values: dict[str, Any] = tomllib.loads(snippet)
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "pacs", "port": 104}
    values.setdefault("data", "/data")
    values.setdefault("bundle", "/bundle")
    values.setdefault("peers", []).extend([] if any(p["name"] == "pacs" for p in values["peers"]) else [pacs])
    values.setdefault("rules", [{"name": "all", "send_to": ["pacs"]}])
    assert list(describe(Settings.model_validate(values)))


def test_settings_that_are_named_exist() -> None:
    named = set(re.findall(rf"`({'|'.join(SECTIONS)})\.([a-z_]+)`", PROSE)) - {("node", "sqlite")}  # a file
    assert len(named) > 10
    assert not [f"{part}.{name}" for part, name in named if name not in fields(part)]


def fields(part: str) -> set[str]:
    model: Any = Settings.model_fields[part].annotation
    assert issubclass(model, BaseModel)
    return set(model.model_fields)


def test_defaults_that_are_named_are_the_defaults() -> None:
    """Written as `section.name` (5 h), or the like."""
    named = re.findall(rf"`({'|'.join(SECTIONS)})\.([a-z_]+)`(?:,| \()\s*(\d+)", PROSE)
    assert len(named) > 5
    for part, name, number in named:
        model: Any = Settings.model_fields[part].annotation
        assert model.model_fields[name].default == int(number), f"{part}.{name}"


def test_the_page_names_all_tags_of_rules() -> None:
    assert not [tag for tag in RULE_TAGS if tag not in section(PACS, "Rules")]


@pytest.mark.parametrize("machine", ROWS)
def test_every_state_is_explained_and_no_other(machine: str) -> None:
    table = section(PACS, "What the states mean").split(f"| {ROWS[machine]} | means | do |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(MACHINES[machine].ways)


@pytest.fixture
def numbers(plant: Plant) -> dict[str, set[str]]:  # noqa: F811
    """Each metric that the node ever shows, and the values of its labels."""
    series_id = plant.synthetic()
    plant.done(series_id)
    answer = plant.client().get("/metrics")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(answer.text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = {value for sample in family.samples for value in sample.labels.values()}
    return found


def test_every_metric_is_explained_and_no_other(numbers: dict[str, set[str]]) -> None:
    assert set(re.findall(r"^\| `(iscl_\w+)` \|", PACS, re.MULTILINE)) == set(numbers)


def test_alerts_ask_for_metrics_and_states_that_exist(numbers: dict[str, set[str]]) -> None:
    rules = block_with("yaml", "alert:")
    assert set(re.findall(r"\biscl_\w+", rules)) <= set(numbers)
    for name, wanted in re.findall(r'(iscl_\w+)\{state=~?"([^"]*)"\}', rules):
        assert set(wanted.split("|")) <= numbers[name]


def test_the_dashboard_asks_for_metrics_and_states_that_exist(numbers: dict[str, set[str]]) -> None:
    dashboard = json.loads((ROOT / "deploy/grafana.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [one["query"] for one in dashboard["templating"]["list"]]
    named = set(re.findall(r"\biscl_\w+", " ".join(asked)))
    assert named == set(numbers), "each metric that the node shows, and no other"
    for name, wanted in re.findall(r'(iscl_\w+)\{[^}]*state=~?"([^"]*)"', " ".join(asked)):
        known = numbers[name] if name != "iscl_deliveries" else {*MACHINES["deliveries"].ways}
        assert set(wanted.split("|")) <= {str(state) for state in known}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_ports_are_published_on_this_machine_by_default() -> None:
    for name in ("compose.yaml", "compose.gpu.yaml"):
        published = re.findall(r'^ *- "([^"]+:\d+)"$', (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert all(one.startswith(("127.0.0.1:", "${DICOM_BIND:-127.0.0.1}:")) for one in published), published
        assert len(published) == (4 if name == "compose.yaml" else 0)


def commands() -> Iterator[str]:
    for line in "\n".join(blocks("")).splitlines():
        if line.startswith("iscl-monai "):
            yield line.partition("  #")[0].removeprefix("iscl-monai ")


def test_commands_of_the_page(tmp_path: Path) -> None:
    """The check and the user; what ``serve`` does without ``--check`` is tested elsewhere."""
    text = block_with("toml", 'HOSPITAL_PACS"\nhost = "pacs.example.org').replace('"/data"', f'"{tmp_path}/data"')
    settings = tmp_path / "node.toml"
    settings.write_text(text, encoding="utf-8")
    found = list(commands())
    assert len(found) == 3
    for line in found:
        words = shlex.split(line.replace("node.toml", str(settings)))
        words += ["--password-stdin"] if words[0] == "user" else [] if "--check" in words else ["--check"]
        done = CliRunner().invoke(app, words, input="a long password\n")
        assert done.exit_code == 0, done.output


def test_certificates_of_the_page_make_a_connection(tmp_path: Path) -> None:
    tool("openssl")
    script = block_with("sh", "openssl req").replace("rsa:3072", "rsa:2048")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 2

    def of(name: str) -> TLS:
        return TLS(certificate=tmp_path / f"{name}.crt", key=tmp_path / f"{name}.key", ca=tmp_path / "ca.crt")

    for node, peer in (("node", "pacs"), ("pacs", "node")):
        shake_hands(server_context(of(peer)), client_context(of(node)), peer)
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server_context(of(peer)), client_context(of(node)), "another.name")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Without a network: what one side writes the other one reads."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    left = list(sides)
    for _ in range(20):
        for side in list(left):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
                left.remove(side)
    assert not left
    assert sides[1].getpeercert()
    assert (sides[0].getpeercert() or {})["subjectAltName"] == (("DNS", name),)  # its CN alone is not enough everywhere


def test_backup_of_the_page_copies_a_database_that_is_written(tmp_path: Path) -> None:
    """Backup and restore, as they stand there."""
    data = tmp_path / "data"
    data.mkdir()
    migrate(data)
    text = block_with("toml", 'HOSPITAL_PACS"\nhost = "pacs.example.org')
    for name, folder in (("node.toml", data), ("restored.toml", tmp_path / "new")):
        (tmp_path / name).write_text(text.replace('"/data"', f'"{folder}"'), encoding="utf-8")
    lines = [line.partition("#")[0] for line in block_with("sh", "node backup").splitlines()]
    with closing(sqlite3.connect(data / DATABASE, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO audit (at, who, action, object, detail) VALUES ('', 'before', '', '', '')")
        writer.execute("COMMIT")  # in node.sqlite-wal still
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO audit (at, who, action, object, detail) VALUES ('', 'during', '', '', '')")
        for line in lines:
            words = line.replace("/data/", f"{data}/").replace("--config ", f"--config {tmp_path}/")
            done = CliRunner().invoke(app, shlex.split(words.removeprefix("iscl-monai ")))
            assert done.exit_code == 0, done.output
    with closing(sqlite3.connect(tmp_path / "new" / DATABASE)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT who FROM audit").fetchall() == [("before",)]
