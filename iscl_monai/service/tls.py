"""DICOM over TLS, as in PS3.15 B.12: TLS 1.2 or newer, and both sides show a certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.dicom_settings import TLS


def server_context(tls: TLS) -> ssl.SSLContext:
    """Context of the server side: clients have to show a certificate that one of our authorities has signed.

    Raises:
        ConfigRefusal: a file cannot be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _load(context, tls)


def client_context(tls: TLS) -> ssl.SSLContext:
    """Context of the client side: the certificate must be signed by our authorities, and bear the name we connect to.

    Raises:
        ConfigRefusal: a file cannot be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it asks for a certificate and checks its name
    context.hostname_checks_common_name = False  # the name has to be a subjectAltName, as PS3.15 and browsers want it
    return _load(context, tls)


def _load(context: ssl.SSLContext, tls: TLS) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    for path in (tls.certificate, tls.key, tls.ca):
        _check_readable(path)
    try:
        context.load_verify_locations(cafile=tls.ca)
    except ssl.SSLError as error:
        raise _refusal(tls.ca, error, "certificates of authorities in PEM form") from error
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_refuse_password)
    except (ssl.SSLError, ValueError) as error:
        raise _refusal(
            tls.certificate, error, f"a certificate in PEM form to which the key in {tls.key} belongs"
        ) from error
    return context


def _refuse_password() -> bytes:
    """Refuse an encrypted key: OpenSSL would ask on a terminal, where a service waits for ever."""
    raise ValueError("the key is encrypted")


def _check_readable(path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise _refusal(path, error, "a file that the node may read") from error


def _refusal(path: Path, error: Exception, allowed: str) -> ConfigRefusal:
    message = getattr(error, "strerror", None) or str(error)
    return ConfigRefusal(f"{path}: {message}", allowed=allowed, cure="correct [node.tls]")
