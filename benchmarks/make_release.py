"""From a finished training to the bundle's released weights: ensemble, student, record and digests.

    python benchmarks/make_release.py RUN DATALIST bundles/iscl --commit COMMIT --machine "2 cores, no GPU"

RUN holds ``models/model.pt`` and ``models/validation.json`` as a training with release.json left them. The ensemble is
that file, the student its F alone; both leave the noise of the clean pool. ``models/released.json`` says what they were
trained on, and how.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from iscl_monai.inference import Denoiser
from iscl_monai.networks import DenoisingNetwork
from iscl_monai.released import KEY

FILES = {"ensemble": "models/released.pt", "student": "models/student.pt"}
MOST_BYTES = 8_000_000


def named(entry: dict[str, Any]) -> str:
    """The patient: of single slices, whose entries bear their collection's name, the folder that holds them."""
    if not str(entry["patient"]).startswith("tcia_single_slices"):
        return str(entry["patient"])
    path = Path(entry.get("reference") or entry["image"])
    return path.parent.name if path.suffix else path.name


def record(run: Path, datalist: Path, commit: str, machine: str, hours: float) -> dict[str, Any]:
    """What released.json says."""
    trained = json.loads((run / "models" / "training.json").read_text())
    history = json.loads((run / "models" / "validation.json").read_text())["history"]
    best = max(history, key=lambda entry: entry["psnr_db"])
    entries = json.loads(datalist.read_text())
    patients = {named(entry) for pool in ("noisy", "clean") for entry in entries[pool]}
    patients |= {str(pair["patient"]) for pair in entries["validation"]}
    return trained | {
        "patients": sorted(patients),
        "recipe": {
            "configs": ["train.json", "small.json", "unet.json", "release.json"],
            "epochs": int(history[-1]["epoch"]),
            "chosen_epoch": int(best["epoch"]),
            "validation_psnr_db": round(best["psnr_db"], 2),
            "validation_input_psnr_db": round(best["input_psnr_db"], 2),
            "commit": commit,
            "machine": machine,
            "hours": hours,
        },
    }


def main() -> None:
    """Write the files, and read them back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--commit", required=True, help="of the code that trained")
    parser.add_argument("--machine", required=True, help="that trained")
    parser.add_argument("--hours", type=float, required=True, help="of wall time")
    arguments = parser.parse_args()
    network = DenoisingNetwork.from_file(arguments.run / "models" / "model.pt")
    ensemble = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    student = ensemble | {"blend": torch.tensor(1.0)}
    digests = {}
    for size, weights in (("ensemble", ensemble), ("student", student)):
        path = arguments.bundle / FILES[size]
        torch.save(weights, path)
        if path.stat().st_size > MOST_BYTES:
            raise SystemExit(f"{path}: {path.stat().st_size} bytes; allowed: {MOST_BYTES}; do: train a smaller network")
        digests[size] = {"file": FILES[size], "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    metadata = arguments.bundle / "configs" / "metadata.json"
    content = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(content | {KEY: digests}, indent=4, ensure_ascii=False) + "\n")
    said = record(arguments.run, arguments.datalist, arguments.commit, arguments.machine, arguments.hours)
    (arguments.bundle / "models" / "released.json").write_text(json.dumps(said, indent=2) + "\n")
    for size in FILES:
        denoiser = Denoiser.from_bundle(arguments.bundle, device="cpu", weights=size)
        print(size, denoiser.identity.weights_digest, denoiser.parameters)


if __name__ == "__main__":
    main()
