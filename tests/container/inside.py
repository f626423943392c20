"""Looks around in the container: ``python inside.py permissions|sealed|codecs|package``; exit code 0 if well."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

UID = 10001


def permissions() -> str:
    """What this user may write, of all that the image has; for a root file system that is not read-only."""
    elsewhere = {"/proc", "/sys", "/dev", "/data", "/tmp"}
    usual = {"/var/tmp", "/run/lock"}  # for everybody, in every Debian
    bad = []
    for folder, names, files in os.walk("/"):
        names[:] = [name for name in names if os.path.join(folder, name) not in elsewhere]
        places = [folder, *(os.path.join(folder, name) for name in files)]
        bad += [place for place in places if not os.path.islink(place) and os.access(place, os.W_OK)]
    wrong = sorted(set(bad) - usual)
    if wrong:
        sys.exit(f"can be written: {wrong[:10]}")
    return "nothing but /data and temporary folders can be written"


def writable(place: str) -> bool:
    """Whether a file can be made there."""
    try:
        Path(place, "probe").touch()
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        return False
    Path(place, "probe").unlink()
    return True


def sealed() -> str:
    """User, capabilities, and where a file can be made."""
    if (os.getuid(), os.getgid()) != (UID, UID):
        sys.exit(f"user {os.getuid()}:{os.getgid()}")
    open_places = [place for place in ("/", "/etc", "/opt/venv", "/usr", "/var/tmp", "/run/lock") if writable(place)]
    if open_places:
        sys.exit(f"can be written: {open_places}")
    closed = [place for place in ("/data", "/tmp") if not writable(place)]
    if closed:
        sys.exit(f"cannot be written: {closed}")
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    if int(status["CapBnd"], 16) or int(status["CapEff"], 16) or status["NoNewPrivs"] != "1":
        sys.exit(f"CapBnd {status['CapBnd']}, CapEff {status['CapEff']}, NoNewPrivs {status['NoNewPrivs']}")
    return f"user {UID}, no capabilities, no new privileges, files only in /data and /tmp"


def codecs() -> str:
    """That the compiled libraries find what they are linked with, and every compression can be read."""
    import openjpeg
    import pydicom
    import SimpleITK
    import torch
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

    scan = pydicom.dcmread("/scan")
    wanted = scan.pixel_array
    for syntax in JPEG2000Lossless, JPEGLSLossless, RLELossless:
        scan.compress(syntax)
        if (scan.pixel_array != wanted).any():
            sys.exit(f"{syntax.name} gives other pixels")
        scan.decompress()
    lacking = [syntax.name for syntax in (JPEGLosslessSV1, JPEGBaseline8Bit) if not get_decoder(syntax).is_available]
    if lacking:
        sys.exit(f"no decoder for {lacking}")
    unwanted = [name for name in ("libjpeg", "pip") if find_spec(name)]  # GPL; not needed to run
    if unwanted:
        sys.exit(f"in the image: {unwanted}")
    versions = f"Python {sys.version.split()[0]}, torch {torch.__version__}, SimpleITK {SimpleITK.__version__}"
    return f"JPEG 2000, JPEG-LS and RLE exact, both JPEGs have a decoder; {versions}, openjpeg {openjpeg.__version__}"


def package(root: Path | None = None) -> str:
    """Digest of all files of the package but bytecode, here or in another place."""
    if root is None:
        import iscl_monai

        root = Path(iscl_monai.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    print({"permissions": permissions, "sealed": sealed, "codecs": codecs, "package": package}[sys.argv[1]]())
