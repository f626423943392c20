"""The wheel in environments of their own: every Python that is promised, oldest and newest torch and MONAI.

    python tests/release/matrix.py dist/iscl_monai-0.1.0-py3-none-any.whl --work build/matrix

Each row is an environment with the wheel and its dependencies alone, in which ``check_installed.py`` runs. What has
passed with the same wheel is not run again, so an interrupted run goes on. ``--work`` gets up to 7 GB per row if torch
comes with CUDA. Needs ``uv`` and an index with the versions below.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PYPROJECT = HERE.parents[1] / "pyproject.toml"
NEWEST = "newest"
ROWS = (
    ("3.10", "oldest", "oldest"),
    ("3.11", "2.13.0", NEWEST),  # what constraints.txt pins
    ("3.12", NEWEST, "oldest"),
    ("3.13", NEWEST, NEWEST),
)
"""Python, torch, MONAI; ``oldest`` is the lower bound of pyproject.toml."""


def oldest(package: str) -> str:
    """The lower bound of a dependency, as a whole version."""
    found = re.search(rf'"{package}>=([\d.]+)', PYPROJECT.read_text(encoding="utf-8"))
    assert found, package
    bound = found[1]
    return bound if bound.count(".") == 2 else f"{bound}.0"


def requirement(package: str, wanted: str) -> str:
    """What pip is asked for."""
    if wanted == NEWEST:
        return package
    return f"{package}=={oldest(package) if wanted == 'oldest' else wanted}"


def interpreter(python: str) -> str | None:
    """The newest installed interpreter of a version, by name or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(pyenv.glob(f"{python}.*/bin/python"), key=lambda path: int(path.parts[-3].split(".")[-1]))
    return str(found[-1]) if found else shutil.which(f"python{python}")


def run_row(row: tuple[str, str, str], wheel: Path, work: Path) -> dict[str, Any]:
    """One environment, made and checked."""
    python, torch, monai = row
    program = interpreter(python)
    if program is None:
        return {"python": python, "checks": {"interpreter": f"no Python {python} here"}}
    environment = work / f"python{python}"
    inside = environment / "bin" / "python"
    begun = time.monotonic()
    if not (environment / "installed").exists():
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run(["uv", "venv", "--quiet", "--python", program, environment], check=True)
        packages = [requirement("torch", torch), requirement("monai", monai), str(wheel)]
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", inside, *packages], check=True)
        (environment / "installed").touch()
    else:
        again = ["--no-deps", "--reinstall-package", "iscl-monai", str(wheel)]
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", inside, *again], check=True)
    installed = time.monotonic()
    done = subprocess.run([inside, HERE / "check_installed.py"], cwd=work, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    result: dict[str, Any] = json.loads(lines[-1]) if lines else {"checks": {"start": done.stderr[-600:]}}
    megabytes = sum(path.stat().st_size for path in environment.rglob("*") if path.is_file()) // 10**6
    return result | {
        "install_s": round(installed - begun),
        "check_s": round(time.monotonic() - installed),
        "megabytes": megabytes,
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results, for the documentation."""
    head = "| Python | torch | MONAI | NumPy | pydicom | result |\n|---|---|---|---|---|---|\n"
    rows = []
    for result in results.values():
        bad = [f"{name}: {word}" for name, word in result["checks"].items() if word != "ok"]
        names = ("python", "torch", "monai", "numpy", "pydicom")
        rows.append([*(str(result.get(name, "-")) for name in names), "; ".join(bad) or "all pass"])
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/matrix"), help="where environments and results lie")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(options.wheel.read_bytes()).hexdigest()
    file = options.work / "results.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        key = " ".join(row)
        earlier = kept.get(key, {})
        if earlier.get("wheel") == digest and set(earlier["checks"].values()) == {"ok"}:
            results[key] = earlier
        else:
            results[key] = run_row(row, options.wheel.resolve(), options.work.resolve()) | {"wheel": digest}
        file.write_text(json.dumps({**kept, **results}, indent=1))
        print(key, results[key]["checks"], flush=True)
    print(table(results))
    return 0 if all(set(one["checks"].values()) == {"ok"} for one in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
