"""``iscl-monai serve`` and ``iscl-monai user`` as an administrator types them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast

import pytest
from service.receiving import free_port, until

SAMPLE = Path(__file__).parents[2] / "deploy" / "node.toml"


def configuration(folder: Path, bundle: Path, **node: Any) -> Path:
    port, web = node.pop("port", free_port()), node.pop("web", free_port())
    text = f"""
data = "{folder / "data"}"
bundle = "{bundle}"
[node]
host = "127.0.0.1"
port = {port}
[[peers]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
[[rules]]
name = "all"
send_to = ["pacs"]
[disk]
reserve_mb = 1
resume_mb = 1
[web]
port = {web}
"""
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "iscl_monai.cli", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)


def test_check_says_what_the_settings_mean(tmp_path: Path) -> None:
    done = run("serve", "--config", SAMPLE, "--check")
    assert done.returncode == 0, done.stderr
    assert "listens as ISCL on 0.0.0.0:11112 (no TLS)" in done.stdout
    assert not (tmp_path / "data").exists()


def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, bundle: Path) -> None:
    path = configuration(tmp_path, bundle)
    path.write_text(path.read_text().replace("host", "hots", 1))
    for more in ([], ["--check"]):
        done = run("serve", "--config", path, *more)
        assert done.returncode == 2
        assert "did you mean host" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_without_a_model_it_ends_at_once_and_says_so(tmp_path: Path) -> None:
    done = run("serve", "--config", configuration(tmp_path, tmp_path / "nothing"))
    assert done.returncode == 2, done.stdout
    assert "model.pt does not exist" in done.stdout
    assert "nothing" in done.stderr


@pytest.mark.parametrize("taken", ["port", pytest.param("web", marks=pytest.mark.untraced_programs)])
def test_a_port_that_is_taken_is_refused_in_one_line(taken: str, tmp_path: Path, bundle: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("serve", "--config", configuration(tmp_path, bundle, **{taken: port}))
    assert done.returncode == 2, done.stdout
    assert str(port) in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.untraced_programs)])
def test_it_starts_answers_and_ends_when_told(number: signal.Signals, tmp_path: Path, bundle: Path) -> None:
    web = free_port()
    path = configuration(tmp_path, bundle, web=web)
    command = [sys.executable, "-m", "iscl_monai.cli", "serve", "--config", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        for line in node.stdout:
            event = json.loads(line)
            if event["event"] == "node.started":
                break
        healthy = answers(f"http://127.0.0.1:{web}/readyz"), answers(f"http://127.0.0.1:{web}/healthz")
        node.send_signal(number)
        rest = [json.loads(line)["event"] for line in node.stdout]
        assert node.wait(60) == 0
    assert rest[-1] == "node.stopped"
    assert healthy == (True, True)


def test_a_reload_that_is_asked_for_too_early_comes_when_the_node_can_answer(tmp_path: Path, bundle: Path) -> None:
    """SIGHUP would end a process that is not ready for it. The settings come by a pipe, which shows who reads them."""
    path = configuration(tmp_path, bundle)
    text = path.read_text(encoding="utf-8")
    path.unlink()
    os.mkfifo(path)
    command = [sys.executable, "-m", "iscl_monai.cli", "serve", "--config", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        try:
            with opened_by_reader(path, node) as pipe:
                node.send_signal(signal.SIGHUP)
                pipe.write(text)
            until(lambda: not has_reader(path))
            with opened_by_reader(path, node) as pipe:
                pipe.write(text.replace('name = "all"', 'name = "everything"'))
            assert node.stdout is not None
            assert any(json.loads(line)["event"] == "rules.reloaded" for line in node.stdout)
            node.send_signal(signal.SIGTERM)
            node.communicate(timeout=60)
            assert node.returncode == 0
        finally:
            node.kill()


def opened_by_reader(path: Path, reader: subprocess.Popen[str]) -> TextIO:
    """The writing end of a named pipe, as soon as a process has opened its other end."""

    def opened() -> TextIO | None:
        assert reader.poll() is None, "the node has ended"
        return writing_end(path)

    return cast(TextIO, until(opened))


def has_reader(path: Path) -> bool:
    end = writing_end(path)
    if end is not None:
        end.close()
    return end is not None


def writing_end(path: Path) -> TextIO | None:
    """None while nobody reads."""
    with suppress(OSError):
        return open(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "w", encoding="utf-8")
    return None


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_users(tmp_path: Path, bundle: Path) -> None:
    path = configuration(tmp_path, bundle)
    adding = ("user", "add", "anna", "--config", path, "--password-stdin")
    done = run(*adding, "--role", "admin", stdin="a long password\n")
    assert done.returncode == 0, done.stderr
    assert "added: anna, admin" in done.stdout
    again = run(*adding, stdin="another password\n")
    assert again.returncode == 2
    short = run("user", "add", "bert", "--config", path, "--password-stdin", stdin="short\n")
    assert short.returncode == 2
    assert "12" in short.stderr
    assert (tmp_path / "data" / "node.sqlite").stat().st_mode & 0o077 == 0
    for file in (tmp_path / "data").iterdir():
        assert b"a long password" not in file.read_bytes()
