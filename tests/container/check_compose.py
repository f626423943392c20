"""Bring up compose.yaml with docker-compose and prove what docs/how-to/pacs.md says: ``make compose-test``.

No test of pytest, for the reasons of check_image.py; it needs docker-compose as well. compose.yaml, deploy/ and the
Dockerfile are taken as they are. Only the base of the node's image and where its packages come from are others
(override.yaml below), and the PACS is Debian's Orthanc under the name of the image that compose.yaml asks for.

Images are built with the network of the machine. Everything else runs in a network namespace of its own, where
dockerd may make bridges and rules, and ports are free; it vanishes with the last process in it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPErrorProcessor, Request, build_opener, urlopen

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from check_image import GRACE_S, SCAN, STORESCU, Claims, expect, lacking, nothing_left  # noqa: E402 - they lie beside this file
from engine import Docker, base_tarball, dockerd, fill_context, run, wait  # noqa: E402
from real_data import real  # noqa: E402

COMPOSE = "/usr/bin/docker-compose"
NODE, BASE, PACS = "localhost/iscl-monai:compose", "localhost/debian:bookworm", "orthancteam/orthanc:26.4.2"
PASSWORD = "correct horse battery staple"
OVERRIDE = f"""\
services:
  node:
    build:
      network: host
      args: {{BASE: "{BASE}", TORCH_INDEX: ""}}
"""


class _Stay(HTTPErrorProcessor):
    """The answer itself, without following where it leads."""

    def http_response(self, request: Request, response: Any) -> Any:
        return response


class Project:
    """A checkout with what the five minutes of docs/how-to/pacs.md make in it, and docker-compose in it."""

    def __init__(self, folder: Path, docker: Docker, *, gpu: bool = False) -> None:
        self.folder, self.docker, self.gpu = folder, docker, gpu
        files = ["compose.yaml", *(["compose.gpu.yaml"] if gpu else []), "override.yaml"]
        self.words = [word for name in files for word in ("-f", name)]

    def prepare(self) -> str:
        self.folder.mkdir()
        fill_context(self.folder, only_from_index=self.gpu)
        (self.folder / "override.yaml").write_text(OVERRIDE)
        users = self.folder / "deploy" / "secrets" / "pacs-users.json"
        users.parent.mkdir()
        users.write_text(json.dumps({"RegisteredUsers": {"admin": PASSWORD}}))
        os.chown(users, 999, 999)
        users.chmod(0o400)
        return f"{len(list((self.folder / '.wheels').iterdir()))} wheels"

    def __call__(self, *words: object, **options: Any) -> str:
        environment = self.docker.environment | {
            "DOCKER_HOST": self.docker.host,
            "DOCKER_BUILDKIT": "1",
            "COMPOSE_DOCKER_CLI_BUILD": "1",
            "NODE_IMAGE": NODE,
            "PATH": f"/usr/bin:{os.environ['PATH']}",  # Debian's docker, which has BuildKit
        }
        return run(COMPOSE, *self.words, *words, cwd=self.folder, env=environment, **options)

    def container(self, service: str) -> str:
        return self("ps", "-q", service).splitlines()[-1]

    def state(self, service: str) -> dict[str, Any]:
        return dict(self.docker.as_json(".State", "inspect", self.container(service)))


class Build:
    """What needs the network of the machine: both images."""

    def __init__(self, project: Project) -> None:
        self.project, self.docker = project, project.docker

    def claims(self, claims: Claims) -> bool:
        return (
            claims.check("a checkout with a password for the PACS, nothing else", self.project.prepare)
            and claims.check("compose.yaml builds the node", self.node)
            and claims.check("a stand-in has the name of the PACS's image", self.pacs)
        )

    def cuda_claims(self, claims: Claims) -> None:
        """As far as a machine without a GPU can tell."""
        if claims.check("a checkout, with torch as the package index has it", self.project.prepare):
            claims.check("compose.gpu.yaml asks for a GPU, and for torch's own CUDA", self.gpu)
            if claims.check("compose.gpu.yaml builds the node", self.node):
                claims.check("its torch is made for that CUDA", self.cuda)

    def gpu(self) -> str:
        text = self.project("config")
        expect("driver: nvidia" in text and "capabilities:" in text, text)
        found = re.search(r"whl/cu(\d+)", (self.project.folder / "compose.gpu.yaml").read_text())
        expect(found, "no index of CUDA wheels")
        return f"cu{found[1]}" if found else ""

    def cuda(self) -> str:
        code = "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())"
        said = self.docker("run", "--rm", "--network", "host", "--entrypoint", "python", NODE, "-c", code)
        version = str(said.splitlines()[-1].split()[1])
        expect("cu" + version.replace(".", "") == self.gpu(), said)
        return f"{said.splitlines()[-1]}; {self.docker('images', '--format', '{{.Size}}', NODE)}"

    def node(self) -> str:
        self.docker("import", base_tarball(), BASE)
        start = time.monotonic()
        self.project("build", "node")
        return f"{time.monotonic() - start:.0f} s without the download"

    def pacs(self) -> str:
        words = ["--network", "host", "--build-arg", f"BASE={BASE}", "-t", PACS]
        self.docker("build", *words, Path(__file__).with_name("pacs"))
        return PACS


class Pair:
    """The node and its PACS, as a newcomer starts them."""

    def __init__(self, project: Project, scan: Path) -> None:
        self.project, self.docker, self.scan = project, project.docker, scan

    def claims(self, claims: Claims) -> None:
        checks = claims.check
        checks("a user can be added before the first start", self.add_user)
        if checks("docker compose up: both become healthy", self.up):
            checks("all ports are open on this machine alone", self.ports)
            checks("the pages let that user in", self.log_in)
            checks("the node and the PACS answer each other", self.connect)
            checks("a series sent to the PACS comes back derived, once", self.there_and_back)
            checks("docker compose stop ends both in time with exit code 0", self.stop)
            checks("docker compose up again: healthy, and nothing is made twice", self.again)
        if claims.failed:
            print(self.project("logs", "--tail", "30"))
        checks("docker compose down -v leaves no container, volume or network", self.down)

    def add_user(self) -> str:
        words = ["user", "add", "anna", "--role", "admin", "--config", "/config/node.toml", "--password-stdin"]
        return self.project("run", "--rm", "-T", "node", *words, input=PASSWORD + "\n").splitlines()[-1]

    def up(self) -> str:
        start = time.monotonic()
        self.project("up", "-d")
        for service in ("pacs", "node"):
            wait(lambda name=service: self.healthy(name), 180, f"{service} healthy")
        return f"{time.monotonic() - start:.0f} s"

    def healthy(self, service: str) -> bool:
        state = self.project.state(service)
        expect(state["Running"], f"{service}: exit code {state['ExitCode']}")
        return bool(state["Health"]["Status"] == "healthy")

    def ports(self) -> str:
        opened = []
        for service in ("node", "pacs"):
            ports = self.docker.as_json(".NetworkSettings.Ports", "inspect", self.project.container(service))
            opened += [(one["HostIp"], one["HostPort"]) for bound in ports.values() for one in bound or []]
        expect({host for host, _ in opened} == {"127.0.0.1"}, opened)
        return ", ".join(sorted(port for _, port in opened))

    def log_in(self) -> str:
        """By the form, as a browser does; the answer sends the browser on with a session."""
        request = Request(
            "http://127.0.0.1:8080/login",
            data=urlencode({"name": "anna", "password": PASSWORD}).encode(),
            headers={"Origin": "http://127.0.0.1:8080"},
        )
        with build_opener(_Stay).open(request, timeout=30) as answer:
            cookie = answer.headers["Set-Cookie"]
        expect(cookie, "no session")
        page = Request("http://127.0.0.1:8080/", headers={"Cookie": cookie.partition(";")[0]})
        with urlopen(page, timeout=30) as answer:
            text = answer.read().decode()
        expect("anna" in text, text[:500])
        return "session and page"

    def connect(self) -> str:
        words = ["serve", "--config", "/config/node.toml", "--check", "--connect"]
        said = self.project("exec", "-T", "node", "iscl-monai", *words)
        echo = self.pacs("/modalities/iscl/echo", b"{}")
        expect(echo == {}, echo)
        return said.splitlines()[-1].strip()

    def there_and_back(self) -> str:
        run(STORESCU, "-aet", "TEST", "-aec", "ORTHANC", "127.0.0.1", 4242, "+sd", "+r", self.scan)
        start = time.monotonic()
        count = len(list(self.scan.rglob("*.dcm")))
        wait(lambda: count in self.derived(), 600, f"{count} derived slices in the PACS")
        took = time.monotonic() - start
        time.sleep(65)  # stable for Orthanc, complete for the node: a loop would show
        expect(self.derived() == [count] and len(self.pacs("/series")) == 2, f"series: {self.derived()}")
        return f"{count} slices {took:.0f} s after the last was sent"

    def derived(self) -> list[int]:
        """How many slices each derived series in the PACS has."""
        found = []
        for series in self.pacs("/series?expand"):
            tags = self.pacs(f"/instances/{series['Instances'][0]}/simplified-tags")
            if tags.get("ImageType", "").startswith("DERIVED"):
                found.append(len(series["Instances"]))
        return found

    def stop(self) -> str:
        start = time.monotonic()
        self.project("stop")
        took = time.monotonic() - start
        codes = {service: self.project.state(service)["ExitCode"] for service in ("node", "pacs")}
        expect(set(codes.values()) == {0}, codes)
        expect(took < GRACE_S, f"{took:.0f} s")
        return f"{took:.1f} s"

    def again(self) -> str:
        said = self.up()
        time.sleep(65)  # the first sweep has looked through the PACS, and what it asked for would be complete
        expect(len(self.pacs("/series")) == 2, f"{len(self.pacs('/series'))} series")
        return said

    def down(self) -> str:
        self.project("down", "-v")
        left = [
            *self.docker("ps", "-aq").split(),
            *self.docker("volume", "ls", "-q").split(),
            *self.docker("network", "ls", "-q", "--filter", "type=custom").split(),
        ]
        expect(not left, left)
        return "nothing"

    def pacs(self, path: str, body: bytes | None = None) -> Any:
        account = b64encode(f"admin:{PASSWORD}".encode()).decode()
        request = Request("http://127.0.0.1:8042" + path, data=body, headers={"Authorization": f"Basic {account}"})
        with urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"{}")


def in_own_network(folder: Path, layers: Path) -> int:
    """Run the second half of this check where no other process can see its network."""
    run("ip", "link", "set", "lo", "up")
    claims = Claims()
    with dockerd(folder, layers, bridge=True) as docker:
        Pair(Project(folder / "checkout", docker), real(SCAN)).claims(claims)
    return claims.failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=Path, help="keep docker's layers in this folder: the next run is faster")
    parser.add_argument("--cuda", action="store_true", help="only build with compose.gpu.yaml: 3 GB of downloads")
    parser.add_argument("--in-own-network", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if needed := lacking() or ("" if Path(COMPOSE).exists() else "needed: apt-get install docker-compose"):
        print(needed, file=sys.stderr)
        return 2
    if arguments.in_own_network:
        return in_own_network(arguments.in_own_network, arguments.layers)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything below is undone
    claims = Claims()
    with tempfile.TemporaryDirectory(prefix="iscl-compose-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the containers' users look into it
        layers = arguments.layers or folder / "layers"
        built = False
        with dockerd(folder, layers) as docker:
            build = Build(Project(folder / "checkout", docker, gpu=arguments.cuda))
            if arguments.cuda:
                build.cuda_claims(claims)
            else:
                built = build.claims(claims)
        if built:
            second = [sys.executable, __file__, "--in-own-network", str(folder), "--layers", str(layers)]
            claims.failed += subprocess.run(["unshare", "--net", *second], check=False).returncode
        claims.check("nothing is left behind", lambda: nothing_left(folder, layers))
    print(f"{claims.failed} claims failed" if claims.failed else "all claims hold")
    return 1 if claims.failed else 0


if __name__ == "__main__":
    sys.exit(main())
