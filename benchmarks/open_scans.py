"""From the open CT scans to the datalist of docs/benchmark.md: quarter dose simulated, pools and test patients apart.

    python benchmarks/open_scans.py TRAIN TEST OUT --quiet QUIET
    iscl-monai benchmark --dataset OUT --out OUT/benchmark --budget 500steps --config small.json --virtual-patients 4

TRAIN holds LIDC-IDRI-0314 (1 mm chest), 4D-Lung-113 (3 mm chest) and fourteen Soft-tissue-Sarcoma patients; TEST three
more of these, TotalSegmentator's abdomen and single slices of six COVID-19-NY-SBU patients, unpacked, one folder for
each patient. Each chest is cut along z: one part simulated for the noisy pool, another untouched for the clean pool,
a third for validation, 15 mm and more apart.

QUIET holds quiet scans of two further patients, of whom virtual patients of real anatomy are made for the test: RIDER
Pilot 0109 (contrast abdomen, 5 mm) and ACRIN-FLT-Breast 001 (abdomen, 5 mm). A scan that is refused, such as an
iterative reconstruction, is left out; --doubtful accepts those of the test side, for what it is worth.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom

from iscl_monai.data import Datalist

FRACTION = "0.25"
LIDC, LUNG = "LIDC-0314", "4DLung-113"
FILES = {"noisy": "low", "clean": "full", "truth": "truth"}
NOISY = {LIDC: [-490, -400], LUNG: [-1140, -1010]} | {
    f"STS_{n}": None for n in ("009", "014", "018", "021", "026", "030", "032", "034")
}
CLEAN = {LIDC: [-690, -555], LUNG: [-990, -885]} | {f"STS_{n}": None for n in ("010", "013", "028", "043")}
QUIET = {
    "RIDER-0109": ("rider_pilot_0109", "--z-range", "-250", "-185"),
    "ACRIN-001": ("acrin_flt_breast_001/acrin_flt_breast_001/abdomen_pelvis_80mA", "--z-range", "-520", "-464"),
}
"""Where the scan lies, and what of it is taken."""
VALIDATION = {LIDC: [-538, -506], LUNG: [-868, -830], "STS_006": None, "STS_049": None}


REFUSED = 2


def run(*arguments: object) -> bool:
    """Whether it was done; False if the scan was refused, as the command then has said."""
    done = subprocess.run([sys.executable, "-m", "data_prep", *map(str, arguments)], check=False)
    if done.returncode not in (0, REFUSED):
        raise SystemExit(done.returncode)
    return done.returncode == 0


def name_of(path: str) -> str:
    """The patient, by the folder's name; the two chests have none."""
    limb = re.search(r"STS_\d+", path)
    return limb.group(0) if limb else LUNG if "Gated" in path else LIDC


def training_side(train: Path, out: Path) -> dict[str, list[dict[str, Any]]]:
    """Simulate every training scan, and put parts of them into pools and validation."""
    run("scan", train, out / "scan")
    run("dose", out / "scan" / "series.parquet", out / "low", "--fraction", FRACTION, "--thickness", "3")
    table = pd.read_parquet(out / "low" / "series.parquet")
    originals = {row.series_uid: row for row in table.itertuples() if not row.simulated_from}
    low, full = {}, {name_of(row.path): row.path for row in originals.values()}
    for row in table.itertuples():
        if row.simulated_from:
            place = full if "_full_" in Path(row.path).name else low  # the average of thin slices
            place[name_of(originals[row.simulated_from].path)] = row.path

    def entries(chosen: dict[str, Any], **keys: dict[str, str]) -> list[dict[str, Any]]:
        return [
            {**{key: paths[name] for key, paths in keys.items()}, "patient": name}
            | ({"z_range_mm": z_range} if z_range else {})
            for name, z_range in chosen.items()
        ]

    return {
        "noisy": [entry | {"dose": float(FRACTION)} for entry in entries(NOISY, image=low, reference=full)],
        "clean": [entry | {"dose": 1.0} for entry in entries(CLEAN, image=full)],
        "validation": [entry | {"dose": float(FRACTION)} for entry in entries(VALIDATION, noisy=low, clean=full)],
    }


def test_series(test: Path) -> Iterator[tuple[str, Path, str | None]]:
    """Patient, folder or file, and series of every original axial series of the test side."""
    for patient in sorted(test.iterdir()):
        axial = patient / "axial"
        if not axial.is_dir():
            yield patient.name, patient / "CT" if (patient / "CT").is_dir() else patient, None
            continue
        for file in sorted(path for path in axial.rglob("*") if path.is_file()):
            header = pydicom.dcmread(file, stop_before_pixels=True)
            if header.ImageType[0] == "ORIGINAL":
                yield patient.name, file, header.SeriesInstanceUID


def test_side(test: Path, out: Path, *, doubtful: bool) -> list[dict[str, Any]]:
    """Simulate every test scan; each with its untouched original is a pair. Doubtful ones are left out, or accepted."""
    accepted = ("--accept-calibration", "--accept-iterative") if doubtful else ()
    pairs = []
    for patient, source, series in test_series(test):
        folder = out / "test" / (f"{patient}_{series}" if series else patient)
        if not folder.is_dir() and not run("dose", source, folder, "--fraction", FRACTION, *accepted):
            continue  # iterative reconstruction, or a scan that the virtual scanner does not explain
        pairs.append({"noisy": str(folder), "clean": str(source), "patient": patient, "dose": float(FRACTION)})
    return pairs


def virtual_patients(quiet: Path, out: Path) -> list[dict[str, Any]]:
    """Of real anatomy: a truth without noise of every quiet scan, and both doses of it."""
    pairs = []
    for name, (source, *options) in QUIET.items():
        folder = out / "truth" / name
        if not folder.is_dir() and not run("truth", quiet / source, folder, "--fraction", FRACTION, *options):
            continue
        files = {key: str(folder / f"{file}.nii.gz") for key, file in FILES.items()}
        pairs.append({**files, "patient": name, "truth_protocol": "truth-real-anatomy"})
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train", "test", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--quiet", type=Path)
    parser.add_argument("--doubtful", action="store_true", help="also test scans whose simulated noise is doubtful")
    options = parser.parse_args()
    train, test, out = (path.resolve() for path in (options.train, options.test, options.out))
    out.mkdir(parents=True, exist_ok=True)
    content = training_side(train, out) | {"test": test_side(test, out, doubtful=options.doubtful)}
    if options.quiet is not None:
        content["test"] += virtual_patients(options.quiet.resolve(), out)
    (out / "datalist.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print({name: len(getattr(Datalist.load(out), name)) for name in ("noisy", "clean", "validation", "test")})


if __name__ == "__main__":
    main()
