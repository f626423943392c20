"""An authority and certificates for tests, made by openssl when they are needed: no key lies in the repository."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from dicom.validators import tool


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    """``stranger`` is of another authority."""

    authority: Path
    node: Pair
    pacs: Pair
    client: Pair
    stranger: Pair


def make_certificates(folder: Path) -> Certificates:
    """For ``localhost`` and 127.0.0.1, valid for two days."""
    authority, other = (_self_signed(folder, name) for name in ("authority", "other"))
    node, pacs, client = (_signed(folder, name, authority) for name in ("node", "pacs", "client"))
    return Certificates(authority.certificate, node, pacs, client, _signed(folder, "stranger", other))


def _openssl(*arguments: object) -> None:
    subprocess.run([tool("openssl"), *map(str, arguments)], check=True, capture_output=True)


def _self_signed(folder: Path, name: str) -> Pair:
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    usage = "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", f"/CN={name}", "-addext", usage)
    _openssl(*new, "-keyout", pair.key, "-out", pair.certificate)
    return pair


def _signed(folder: Path, name: str, by: Pair) -> Pair:
    pair, request, names = Pair(folder / f"{name}.crt", folder / f"{name}.key"), folder / f"{name}.csr", folder / "san"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="utf-8")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", pair.key, "-out", request)
    signing = ("-CA", by.certificate, "-CAkey", by.key, "-CAcreateserial", "-days", 2, "-extfile", names)
    _openssl("x509", "-req", "-in", request, *signing, "-out", pair.certificate)
    return pair
