"""Whether everything that names the version names the same one.

python tests/release/check_release.py v0.1.0
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def named_versions(root: Path = ROOT) -> dict[str, str | None]:
    """The version by each file that names one."""
    metadata = json.loads((root / "bundles" / "iscl" / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return {
        "iscl_monai/version.py": _first(root / "iscl_monai" / "version.py", r'__version__ = "(.+?)"'),
        "CITATION.cff": _first(root / "CITATION.cff", r'^version: "?([^"\s]+)'),
        "metadata.json, required_packages_version": metadata["required_packages_version"]["iscl-monai"],
    }


def _first(path: Path, pattern: str) -> str | None:
    found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None


def main(tag: str) -> int:
    """Print what differs from the tag; 1 when anything does."""
    wanted = tag.removeprefix("v")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    differing = {place: version for place, version in named_versions().items() if version != wanted}
    if not re.search(rf"^## \[{re.escape(wanted)}\]", changelog, re.MULTILINE):
        differing["CHANGELOG.md"] = None
    for place, version in differing.items():
        print(f"{place}: {version or 'nothing'}; allowed: {wanted}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
