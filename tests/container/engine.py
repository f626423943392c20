"""A docker daemon for one check, what an image is built from, and what is in its layers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
# Full paths: another docker on the PATH may lack BuildKit.
DOCKER, DOCKERD = "/usr/bin/docker", "/usr/sbin/dockerd"


def run(*command: object, **options: Any) -> str:
    """Output of a command, stderr included; AssertionError with its end if it fails."""
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout.strip()


def wait(until: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer of ``until``."""
    end = time.monotonic() + seconds
    while not (answer := until()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)
    return answer


# --- what the build needs -------------------------------------------------------------------------------------------


def base_tarball() -> Path:
    """A minimal Debian without Python, made once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iscl-monai-base"
    tarball = cache / "bookworm.tar"
    if tarball.exists():
        return tarball
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        tree = Path(work, "tree")
        run("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", tree)
        run("tar", "-C", tree, "--exclude=./var/cache/apt/archives/*.deb", "-cf", f"{work}/tar", ".")
        Path(work, "tar").rename(tarball)
    return tarball


def fill_context(folder: Path, *, only_from_index: bool = False) -> None:
    """The files that git knows, as they lie here now, and all wheels; the working tree is left alone.

    Args:
        folder: is filled.
        only_from_index: wheels that lie on this machine are not taken: its torch may be for CPUs alone.
    """
    listed = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    pip = [sys.executable, "-m", "pip", "download", "-q", "-d", ".wheels", "-c", "constraints.txt"]
    environment = os.environ | ({"PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull} if only_from_index else {})
    run(*pip, "torch", "hatchling>=1.26", ".[serve]", cwd=folder, env=environment)


def pip_settings() -> list[str]:
    """Where this machine's pip gets packages from: what must not be found in the image."""
    listed = run(sys.executable, "-m", "pip", "config", "list")
    kept = re.findall(r"^\S*(?:index-url|find-links|proxy|trusted-host)='?(.*?)'?$", listed, re.MULTILINE)
    return [word for value in kept for word in value.split() if len(word) > 8]


# --- docker ---------------------------------------------------------------------------------------------------------


class Docker:
    """A client that speaks to our dockerd.

    Args:
        folder: where its socket is.
    """

    def __init__(self, folder: Path) -> None:
        self.host = f"unix://{folder}/docker.sock"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}

    def __call__(self, *words: object) -> str:
        return run(DOCKER, "-H", self.host, *words, env=self.environment | {"DOCKER_BUILDKIT": "1"})

    def as_json(self, what: str, *words: object) -> Any:
        return json.loads(self(*words, "--format", f"{{{{json {what}}}}}"))


@contextmanager
def dockerd(folder: Path, layers: Path, *, bridge: bool = False) -> Iterator[Docker]:
    """A daemon for the time of a block.

    Args:
        folder: for its socket, log and state.
        layers: for its images; they stay.
        bridge: with networks of its own. They need rights and kernel modules that a sandbox may lack, and change the
            interfaces and packet rules of the network namespace.
    """
    docker = Docker(folder)
    limit = os.sysconf("SC_OPEN_MAX")  # who may not raise it cannot start containers that want more
    command = [DOCKERD, "-H", docker.host, "--data-root", layers, "--exec-root", folder / "exec"]
    command += ["--pidfile", folder / "docker.pid"]
    command += [] if bridge else ["--iptables=false", "--ip6tables=false", "--bridge=none"]
    command += ["--default-ulimit", f"nofile={limit}:{limit}"]
    with (folder / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, start_new_session=True)
        try:
            wait(lambda: _answers(docker, daemon, folder), 60, "dockerd")
            yield docker
        finally:
            _stop(docker, daemon)
            _unmount(folder, layers)


def _answers(docker: Docker, daemon: subprocess.Popen[bytes], folder: Path) -> bool:
    if daemon.poll() is not None:
        raise AssertionError("dockerd: " + (folder / "dockerd.log").read_text(errors="replace")[-2000:])
    try:
        return bool(docker("version"))
    except AssertionError:
        return False


def _stop(docker: Docker, daemon: subprocess.Popen[bytes]) -> None:
    try:
        names = docker("ps", "-aq").split()
        if names:
            docker("rm", "-f", "-v", *names)
        volumes = docker("volume", "ls", "-q").split()
        if volumes:
            docker("volume", "rm", *volumes)
    except AssertionError as error:
        print(error, file=sys.stderr)
    daemon.terminate()
    try:
        daemon.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)  # its containerd too
        daemon.wait()


def _unmount(*folders: Path) -> None:
    for place in reversed(mounts(*folders)):
        subprocess.run(["umount", "-l", place], check=False)


def mounts(*folders: Path) -> list[str]:
    """What is mounted below these folders."""
    below = tuple(f"{folder.resolve()}/" for folder in folders)
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [place for place in places if f"{place}/".startswith(below)]


# --- what is in an image --------------------------------------------------------------------------------------------

KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s[A-Za-z0-9+/=\s]{64,}")
KEYS_OF_DEBIAN = re.compile(r"/libgnutls\.so")  # it tests itself with them at each start
BAD_NAMES = re.compile(
    r"(^|/)(pip\.conf|\.netrc|\.pypirc|id_rsa|id_ed25519|model\.pt)$|^run/secrets/.|(^|/)\.(git|wheels)/"
)


def find_secrets(archive: Path, needles: list[bytes]) -> str:
    """AssertionError if a layer has one of the needles, a private key or a file that never belongs into an image."""
    bad: list[str] = []
    files = size = 0
    for name, opened in _files_of_layers(archive):
        content = opened.read()
        files, size = files + 1, size + len(content)
        if BAD_NAMES.search(name):
            bad.append(f"{name} (its name)")
        if KEY.search(content) and not KEYS_OF_DEBIAN.search(name):
            bad.append(f"{name} (a private key)")
        bad += [f"{name} ({needle.decode()[:40]})" for needle in needles if needle in content]
    if files < 1000:
        raise AssertionError(f"only {files} files seen: this check does not understand the archive")
    if bad:
        raise AssertionError("; ".join(bad[:10]))
    return f"{files} files, {size / 2**20:.0f} MiB, {len(needles)} strings looked for"


def _files_of_layers(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Every regular file of every layer of ``docker save``, those deleted by later layers included."""
    with tarfile.open(archive) as image:
        for layer in [one for one in image if one.name.endswith("layer.tar")]:
            with tarfile.open(fileobj=image.extractfile(layer)) as files:
                for entry in files:
                    if entry.isfile() and (opened := files.extractfile(entry)):
                        yield entry.name.removeprefix("./"), opened
