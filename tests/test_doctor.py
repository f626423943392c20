from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from inference.tiny import make_bundle
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import HTJ2KLossless
from typer.testing import CliRunner

from iscl_monai import doctor, extras
from iscl_monai.cli import app
from iscl_monai.inference import Denoiser


def asked(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *words])
    return done.exit_code, done.output


def test_it_says_what_is_here(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    code, text = asked("--bundle", str(bundle))
    assert code == 0, text
    assert f"torch               {version('torch')}" in text
    assert Denoiser.from_bundle(bundle, device="cpu").identity.weights_digest in text
    assert "HTJ2KLossless" in text
    assert "\n!" not in text


def test_for_programs(tmp_path: Path) -> None:
    code, text = asked("--json", "--bundle", str(make_bundle(tmp_path / "tiny")))
    assert code == 0
    found = json.loads(text)["result"]
    assert {one["name"]: one["state"] for one in found["extras"]} == dict.fromkeys(extras.EXTRAS, "ok")
    assert all(one["state"] == "ok" for one in found["bundle"])


def test_an_extra_that_is_absent_is_no_problem_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version_of(name: str) -> str:
        if name == "numba":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(extras, "version", version_of)
    code, text = asked()
    assert code == 0
    assert '- data without numba -> pip install "iscl-monai[data]"' in " ".join(text.split())


def test_a_package_that_is_too_old_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "version", lambda name: "1.0" if name == "pydicom" else version(name))
    code, text = asked()
    assert code == 1
    assert "! pydicom" in text


def test_a_decoder_that_is_absent_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get_decoder(HTJ2KLossless)), "is_available", property(lambda decoder: False))
    code, text = asked()
    assert code == 1
    assert "! HTJ2KLossless" in text


def test_damaged_weights_are_a_problem(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    weights = bundle / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:-100])
    code, text = asked("--bundle", str(bundle))
    assert code == 1
    assert "! weights" in text


def test_a_bundle_without_weights_says_how_to_get_them(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    (bundle / "models" / "model.pt").unlink()
    code, text = asked("--bundle", str(bundle))
    assert code == 0
    assert "- weights" in text
    assert "train first" in text


def test_little_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FEWEST_GIB", 1e6)
    assert [one.name for one in doctor.diagnose(None).problems] == ["memory"]


def test_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path(doctor.__file__).resolve().parents[2]))
    assert str(Path.home()) not in "\n".join(doctor.diagnose(None).lines())


def test_the_page_shows_what_the_command_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/doctor.md").read_text(encoding="utf-8")
    shown = page.split("```\ndecoders", 1)[1].split("```", 1)[0].splitlines()[1:]
    bundle = make_bundle(tmp_path / "tiny")
    (bundle / "models" / "model.pt").unlink()
    code, text = asked("--bundle", str(bundle))
    assert code == 0
    said = [line.strip() for line in text.splitlines()]
    for line in shown:
        if "memory" in line or "GPU" in line:  # of the machine that the page was written on
            assert any(line.split()[0:2] == other.split()[0:2] or line.split()[0] == other.split()[0] for other in said)
        else:
            assert line.strip() in said
    command = "iscl-monai doctor --json --bundle bundles/iscl"
    assert command in page
    code, text = asked("--json", "--bundle", str(bundle))
    finding = json.loads(text)["result"]["bundle"][0]
    assert all(f"`{name}`" in page for name in finding)
