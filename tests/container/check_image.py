"""Build the image and prove what is said about it: ``make image-test``, or ``python tests/container/check_image.py``.

No test of pytest: it takes minutes, 10 GB of disk and root. It needs Debian's own docker (docker.io), debootstrap,
dcmtk and Orthanc, and no registry: the base image is made with debootstrap (kept in
``${XDG_CACHE_HOME:-~/.cache}/iscl-monai-base``), the wheels are fetched by this machine's pip, and dockerd runs for
this check alone, in a folder that is removed, whatever happens. Every claim is one line; the exit code is 1 if one
is not so, 2 if something needed is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "inference")]

import numpy as np  # noqa: E402 - the helpers of the tests lie beside them, not in a package
import pydicom  # noqa: E402
from dicom.orthanc import Dicom, Orthanc, free_port, running  # noqa: E402
from engine import (  # noqa: E402
    DOCKER,
    DOCKERD,
    ROOT,
    Docker,
    base_tarball,
    dockerd,
    fill_context,
    find_secrets,
    mounts,
    pip_settings,
    run,
    wait,
)
from inside import package  # noqa: E402
from real_data import real  # noqa: E402
from tiny import make_bundle  # noqa: E402

IMAGE, BASE = "localhost/iscl-monai:check", "localhost/debian:bookworm"
UID = 10001
SCAN = "qa/ge_head_tilt"
GRACE_S = 60
STORESCU = "/usr/bin/storescu"  # a virtual environment has another one, pynetdicom's
PACKAGES = {
    DOCKER: "docker.io",
    DOCKERD: "docker.io",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/debootstrap": "debootstrap",
    STORESCU: "dcmtk",
    "/usr/sbin/Orthanc": "orthanc",
    "/usr/share/orthanc/plugins/libOrthancDicomWeb.so": "orthanc-dicomweb",
}
HARDENED = [
    *("--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--memory", "4g", "--pids-limit", "512"),
]


class Claims:
    """Print each claim with what was seen, and remember whether all of them were so."""

    def __init__(self) -> None:
        self.failed = 0

    def check(self, claim: str, look: Callable[[], object]) -> bool:
        """``look`` returns what was seen, and raises if the claim is not so; one that cannot be checked is not so."""
        start = time.monotonic()
        try:
            seen, verdict = look(), "ok  "
        except Exception as error:
            seen, verdict = f"{type(error).__name__}: {error}", "FAIL"
            self.failed += 1
        print(f"{verdict} {claim}: {seen} [{time.monotonic() - start:.1f} s]", flush=True)
        return verdict == "ok  "


def expect(so: object, otherwise: object) -> None:
    if not so:
        raise AssertionError(otherwise)


class Build:
    """Base, image, and that nothing of the build but the image is left in it."""

    def __init__(self, docker: Docker, work: Path) -> None:
        self.docker, self.work = docker, work
        self.canary = secrets.token_hex(16)

    def claims(self, claims: Claims) -> bool:
        claims.check("hadolint finds nothing", self.lint)
        return (
            claims.check("a base image without Python", self.base)
            and claims.check("the image builds from wheels alone", self.build)
            and claims.check("user, signal, ports, health check and labels are set", self.configuration)
            and claims.check("no secret of the build is in a layer, the history or the configuration", self.no_secrets)
        )

    def lint(self) -> str:
        return run(Path(sys.executable).parent / "hadolint", "Dockerfile", cwd=ROOT) or "clean"

    def base(self) -> str:
        self.docker("import", base_tarball(), BASE)
        return f"{self.size(BASE) / 1e6:.0f} MB"

    def build(self) -> str:
        context = self.work / "context"
        context.mkdir()
        fill_context(context)
        secret = {
            "pip": f"[global]\nindex-url = https://canary:{self.canary}@index.invalid/simple\n",
            "ca": f"-----BEGIN CERTIFICATE-----\n{self.canary}\n-----END CERTIFICATE-----\n",
        }
        words = ["--network", "host", "--build-arg", f"BASE={BASE}", "--build-arg", "TORCH_INDEX="]
        words += ["--build-arg", "REVISION=" + run("git", "-C", ROOT, "rev-parse", "HEAD")]
        for name, content in secret.items():
            (self.work / name).write_text(content)
            words += ["--secret", f"id={name},src={self.work / name}"]
        start = time.monotonic()
        self.docker("build", "--progress", "plain", *words, "-t", IMAGE, context)
        return f"{time.monotonic() - start:.0f} s without the download, {self.size(IMAGE) / 1e6:.0f} MB"

    def size(self, image: str) -> int:
        return int(self.docker.as_json(".Size", "image", "inspect", image))

    def configuration(self) -> str:
        config = self.docker.as_json(".Config", "image", "inspect", IMAGE)
        expect(config["User"] == f"{UID}:{UID}", config["User"])
        expect(config["StopSignal"] == "SIGTERM", config)
        expect(config["Entrypoint"] == ["iscl-monai"], config)
        expect(set(config["ExposedPorts"]) == {"11112/tcp", "8080/tcp"}, config)
        expect(config["Healthcheck"], config)
        labels = {name.rsplit(".", 1)[1]: value for name, value in config["Labels"].items()}
        expect(labels["licenses"] == "Apache-2.0", labels)
        return f"user {config['User']}, revision {labels['revision'][:12]}"

    def no_secrets(self) -> str:
        needles = [self.canary, *pip_settings()]
        plain = self.docker("history", "--no-trunc", IMAGE) + self.docker("image", "inspect", IMAGE)
        expect(not [one for one in needles if one in plain], "history or configuration: " + plain)
        archive = self.work / "image.tar"
        self.docker("save", "-o", archive, IMAGE)
        try:
            return find_secrets(archive, [one.encode() for one in needles])
        finally:
            archive.unlink()


class Inside:
    """What a process in the container can do, and that it computes what one outside does."""

    def __init__(self, docker: Docker, work: Path, scan: Path, bundle: Path) -> None:
        self.docker, self.work, self.scan, self.bundle = docker, work, scan, bundle

    def claims(self, claims: Claims) -> None:
        one = sorted(self.scan.rglob("*.dcm"))[0]
        claims.check(
            "file permissions alone leave nothing to write", lambda: self.look("permissions", "--network", "host")
        )
        claims.check("the package in it is the one in the working tree", self.package)
        claims.check("hardened, it is sealed", lambda: self.look("sealed", *HARDENED, "-v", "probe:/data"))
        claims.check("compressed scans can be read", lambda: self.look("codecs", *HARDENED, "-v", f"{one}:/scan:ro"))
        claims.check("a series denoised inside has the pixels of one denoised outside", self.denoise)

    def look(self, what: str, *words: str) -> str:
        mount = f"{Path(__file__).with_name('inside.py')}:/inside.py:ro"
        return self.docker("run", "--rm", *words, "-v", mount, "--entrypoint", "python", IMAGE, "/inside.py", what)

    def package(self) -> str:
        context, installed = self.work / "context", self.work / "installed"
        shutil.copytree(context / "iscl_monai", installed)
        bundle = context / "bundles" / "iscl"  # which the wheel puts into the package
        files = [
            path for part in ("configs", "docs", "models") for path in (bundle / part).rglob("*") if path.is_file()
        ]
        for file in [bundle / "LICENSE", *(path for path in files if path.name != ".gitkeep")]:
            inside = installed / "bundles" / "iscl" / file.relative_to(bundle)
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, inside)
        ours = package(installed)
        theirs = self.look("package", "--network", "host")
        version = self.docker("run", "--rm", "--network", "host", IMAGE, "--version")
        expect(ours == theirs, f"{ours} here, {theirs} there, which calls itself {version}")
        return f"{version}, digest {ours[:12]}"

    def denoise(self) -> str:
        inside, outside = self.work / "data" / "out", self.work / "outside"
        inside.parent.mkdir()
        os.chown(inside.parent, UID, UID)
        run(sys.executable, "-m", "iscl_monai.cli", "denoise", self.scan, outside, "--bundle", self.bundle, cwd=ROOT)
        places = {f"{self.scan}": "/scan:ro", f"{self.bundle}": "/bundle:ro", f"{inside.parent}": "/data"}
        volumes = [word for here, there in places.items() for word in ("-v", f"{here}:{there}")]
        self.docker("run", "--rm", *HARDENED, *volumes, IMAGE, "denoise", "/scan", "/data/out")
        return same_pixels(outside, inside)


def same_pixels(one: Path, other: Path) -> str:
    ours, theirs = _slices(one), _slices(other)
    expect(len(ours) == len(theirs) > 0, f"{len(ours)} and {len(theirs)} slices")
    pairs = zip(ours, theirs, strict=True)
    worst = max(int(np.abs(a.pixel_array.astype(np.int32) - b.pixel_array).max()) for a, b in pairs)
    expect(worst <= 1, f"pixels differ by {worst}")  # one stored unit: another numerical library may round elsewhere
    return f"{len(ours)} slices, largest difference {worst}"


def _slices(folder: Path) -> list[pydicom.Dataset]:
    read = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]
    return sorted(read, key=lambda one: int(one.InstanceNumber))


class Node:
    """``iscl-monai serve`` between a PACS with ``deploy/orthanc.json`` and ``deploy/route.lua``, and an operator."""

    def __init__(self, docker: Docker, work: Path, scan: Path, bundle: Path) -> None:
        self.docker, self.work, self.scan, self.bundle = docker, work, scan, bundle
        self.dicom, self.web, self.pacs = free_port(), free_port(), free_port()

    def claims(self, claims: Claims) -> None:
        if claims.check("the node starts hardened, and is healthy", self.start):
            claims.check("its process 1 is not root", self.process)
            claims.check("the health check fails where nobody answers", self.health_check)
            claims.check(
                "Orthanc gets the derived series, once, though the node was stopped at it", self.there_and_back
            )
            claims.check("nothing was written but to the volume and /tmp", self.untouched)
            claims.check("docker stop ends it in time with exit code 0", self.stop)
            claims.check("it starts again on the same volume", self.again)
            claims.check("and stops again", self.stop)
        if claims.failed:
            print("the node's log:\n" + self.docker("logs", "--tail", "20", "node"))

    def start(self) -> str:
        (self.work / "config").mkdir()
        (self.work / "config" / "node.toml").write_text(self.settings())
        volumes = ["-v", f"{self.work / 'config'}:/config:ro", "-v", f"{self.bundle}:/bundle:ro", "-v", "node:/data"]
        health = ["--health-interval", "2s", "-e", f"ISCL_MONAI_HEALTH_URL=http://127.0.0.1:{self.web}/healthz"]
        self.docker("run", "-d", "--name", "node", *HARDENED, *health, *volumes, IMAGE)
        return self.healthy()

    def settings(self) -> str:
        """The sample, with ports of this machine and less patience."""
        text = (ROOT / "deploy" / "node.toml").read_text()
        for old, new in {
            r'^host = "pacs"$': 'host = "127.0.0.1"',
            r"^port = 4242\b": f"port = {self.pacs}",
            r"^# port = 11112\b": f"port = {self.dicom}",
            r"^# port = 8080\b": f"port = {self.web}",
            r"^quiet_s = 30\b.*\n": "",
            r'^send_to = \["pacs"\]$': 'send_to = ["pacs"]\nquiet_s = 3',
        }.items():
            text, changed = re.subn(old, new, text, flags=re.MULTILINE)
            expect(changed, f"deploy/node.toml has no line {old}")
        return text

    def state(self) -> dict[str, Any]:
        return dict(self.docker.as_json(".State", "inspect", "node"))

    def healthy(self) -> str:
        start = time.monotonic()
        wait(lambda: self.health() == "healthy", 120, "healthy")
        return f"healthy after {time.monotonic() - start:.1f} s"

    def health(self) -> str:
        state = self.state()
        expect(state["Running"], f"exit code {state['ExitCode']}")
        return str(state["Health"]["Status"])

    def process(self) -> str:
        status = self.docker("exec", "node", "python", "-c", "print(open('/proc/1/status').read())")
        uids = re.search(r"^Uid:\s+(.*)$", status, re.MULTILINE)
        expect(uids and set(uids[1].split()) == {str(UID)}, status)
        return f"user {UID}"

    def health_check(self) -> str:
        words = ["-e", f"ISCL_MONAI_HEALTH_URL=http://127.0.0.1:{free_port()}/healthz"]
        try:
            self.docker("exec", *words, "node", "/opt/venv/bin/python", "-IS", "/opt/healthcheck.py")
        except AssertionError as error:
            return str(error).splitlines()[-1]
        raise AssertionError("it is content")

    def there_and_back(self) -> str:
        settings = json.loads((ROOT / "deploy" / "orthanc.json").read_text())
        iscl = settings["DicomModalities"]["iscl"] | {"Host": "127.0.0.1", "Port": self.dicom}
        here = {"HttpPort", "DicomPort", "LuaScripts", "AuthenticationEnabled", "DicomWeb"}
        more = {name: value for name, value in settings.items() if name not in here}
        more |= {"DicomModalities": {"iscl": iscl}, "StableAge": 2}
        pacs = Dicom(port=self.pacs, lua=(ROOT / "deploy" / "route.lua").read_text(), more=more)
        (self.work / "pacs").mkdir()
        count = len(list(self.scan.rglob("*.dcm")))
        with running(self.work / "pacs", pacs) as orthanc:
            run(STORESCU, "-aet", "SCANNER", "-aec", "ORTHANC", "127.0.0.1", self.pacs, "+sd", "+r", self.scan)
            stopped = self.stopped_at_work()
            self.again()
            start = time.monotonic()
            derived = wait(lambda: derived_series(orthanc, count), 300, "the derived series")
            took = time.monotonic() - start
            time.sleep(8)  # longer than either side waits for more slices: a loop would show
            number = len(orthanc.answer("/series"))
            expect(number == 2, f"{number} series: a loop?")
            return f"{stopped}; {count} slices back {took:.1f} s later, {derived['ImageType']}; {committed(orthanc)}"

    def stopped_at_work(self) -> str:
        wait(lambda: "job.running" in self.docker("logs", "node"), 120, "a job")
        output = self.stop()
        finished = self.docker("logs", "node").partition("node.stopping")[0]
        expect("job.sending" not in finished, "the job was over too soon for this check")
        return output

    def untouched(self) -> str:
        changed = self.docker("diff", "node").splitlines()
        other = [line for line in changed if not re.match(r"[AC] /(data|tmp|bundle|config)\b", line)]
        expect(not other, other)
        return "docker diff shows nothing else"

    def stop(self) -> str:
        start = time.monotonic()
        self.docker("stop", "-t", GRACE_S, "node")
        took, state = time.monotonic() - start, self.state()
        expect(state["ExitCode"] == 0, state)
        expect(took < GRACE_S, f"killed after {took:.1f} s")
        return f"exit code 0 after {took:.1f} s"

    def again(self) -> str:
        self.docker("start", "node")
        return self.healthy()


def derived_series(orthanc: Orthanc, wanted: int) -> dict[str, Any] | None:
    """Tags of the series that says that it was derived, once it has all slices."""
    for series in orthanc.answer("/series"):
        instances = orthanc.answer(f"/series/{series}")["Instances"]
        tags = dict(orthanc.answer(f"/instances/{instances[0]}/simplified-tags"))
        if tags.get("ImageType", "").startswith("DERIVED") and len(instances) == wanted:
            return tags
    return None


def committed(orthanc: Orthanc) -> str:
    """That the node has promised to keep what Orthanc has sent."""
    [job] = [job for job in orthanc.answer("/jobs?expand") if job["Type"] == "DicomModalityStore"]
    expect(job["State"] == "Success", job)
    report = orthanc.answer(f"/storage-commitment/{job['Content']['StorageCommitmentTransactionUID']}")
    expect(report["Status"] == "Success", report)
    return f"{len(report['Success'])} committed"


def nothing_left(work: Path, layers: Path) -> str:
    mounted = mounts(work, layers)
    expect(not mounted, mounted)
    left = [process.name for process in Path("/proc").glob("[0-9]*") if str(work) in _command(process)]
    expect(not left, f"processes {left}")
    return "no mounts, no processes"


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:  # it has just ended
        return ""


def lacking() -> str:
    """What this machine needs before, or ""."""
    packages = sorted({package for path, package in PACKAGES.items() if not Path(path).exists()})
    if packages:
        return f"needed: apt-get install --no-install-recommends {' '.join(packages)}"
    if os.geteuid():
        return "needed: root, for dockerd"
    if sys.version_info[:2] != (3, 11):
        return f"needed: Python 3.11, whose wheels fit Debian bookworm's; this is {sys.version.split()[0]}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=Path, help="keep docker's layers in this folder: the next run is faster")
    parser.add_argument("--without-node", action="store_true", help="do not start `iscl-monai serve`")
    arguments = parser.parse_args()
    if needed := lacking():
        print(needed, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything below is undone
    claims = Claims()
    with tempfile.TemporaryDirectory(prefix="iscl-image-") as folder:
        work = Path(folder)
        work.chmod(0o755)  # the container's user looks into it
        layers = arguments.layers or work / "layers"
        scan, bundle = real(SCAN), make_bundle(work / "bundle")
        with dockerd(work, layers) as docker:
            if Build(docker, work).claims(claims):
                Inside(docker, work, scan, bundle).claims(claims)
                if not arguments.without_node:
                    Node(docker, work, scan, bundle).claims(claims)
        claims.check("dockerd has left nothing behind", lambda: nothing_left(work, layers))
    print(f"{claims.failed} claims failed" if claims.failed else "all claims hold")
    return 1 if claims.failed else 0


if __name__ == "__main__":
    sys.exit(main())
