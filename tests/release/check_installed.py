"""What an installation from the wheel must do, in the environment whose Python runs this.

    python tests/release/check_installed.py

Uses nothing of the repository, only what is installed. Prints one JSON line; ends with 1 when something fails.
Checked: ``doctor``, ``denoise`` with the released weights against :data:`EXPECTED`, the bundle's
``inference_volume.json`` against ``denoise``, and a tiny training with the bundle whose weights denoise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np

EXPECTED = {"changed_hu": 9.470, "noise_before_hu": 34.82, "noise_after_hu": 14.51}
"""Of :func:`phantom`: mean size of the change, and the deviation in its body before and after; torch 2.13 on a CPU."""
TOLERANCE = 0.02
"""Of each, relative: versions of torch and NumPy sum in other orders, and stored integers round that away or not."""
AFFINE = np.array([[-0.7, 0, 0, 31.3], [0, 0.7, 0, 17.7], [0, 0, 2.5, -99.9], [0, 0, 0, 1]])
TINY = {
    **{"width": 2, "extractor_layers": 3, "residual_blocks": 1, "discriminator_width": 2, "patch_size": 64},
    **{"batch_size": 2, "epochs": 1, "steps_per_epoch": 3, "warm_up_steps": 1, "num_workers": 0},
    "validation_slices": 1,
}
BODY = (slice(20, -20), slice(20, -20))


def phantom(seed: int = 5, noise_hu: float = 35) -> np.ndarray:
    """A noisy body in air, HU (column, row, slice)."""
    chance = np.random.default_rng(seed)
    values = chance.normal(-1000, 15, (96, 80, 3))
    values[12:-12, 12:-12] = chance.normal(40, noise_hu, (72, 56, 3))
    return np.rint(values).astype(np.int16)


def run(*words: object, cwd: Path) -> str:
    """A command of this environment, outside of any repository."""
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])}: {done.stderr[-1500:]}")
    return done.stdout


def doctor(folder: Path) -> None:
    """It tells of itself."""
    json.loads(run("iscl_monai.cli", "doctor", "--json", cwd=folder))


def denoise(folder: Path) -> None:
    """The released weights change a phantom as they always did."""
    before = phantom()
    nibabel.Nifti1Image(before, AFFINE).to_filename(folder / "scan.nii.gz")
    run("iscl_monai.cli", "denoise", "scan.nii.gz", "denoised.nii.gz", "--device", "cpu", cwd=folder)
    after = np.asarray(nibabel.load(folder / "denoised.nii.gz").dataobj)
    found = {
        "changed_hu": float(np.abs(after - before).mean()),
        "noise_before_hu": float(before[BODY].std()),
        "noise_after_hu": float(after[BODY].std()),
    }
    far = {name: value for name, value in found.items() if abs(value / EXPECTED[name] - 1) > TOLERANCE}
    if far:
        raise RuntimeError(f"{far}; expected {EXPECTED}")


def bundle_inference(folder: Path) -> None:
    """The bundle's config writes what the command writes."""
    run("iscl_monai.cli", "bundle", "bundle", cwd=folder)
    config = folder / "bundle" / "configs" / "inference_volume.json"
    words = ("--input", "scan.nii.gz", "--output_dir", "out", "--device", "cpu")
    run("monai.bundle", "run", "inference", "--config_file", config, *words, cwd=folder)
    one, other = (
        np.asarray(nibabel.load(folder / place).dataobj, np.float32)
        for place in ("denoised.nii.gz", "out/scan_denoised.nii.gz")
    )
    if not np.array_equal(one, other):
        raise RuntimeError(f"bundle and denoise differ by up to {np.abs(one - other).max()} HU")


def training(folder: Path) -> None:
    """A bundle of one's own is trained, and its weights denoise."""
    data = folder / "data"
    data.mkdir()
    pools: dict[str, list[dict[str, str]]] = {"noisy": [], "clean": []}
    for seed, (pool, noise_hu) in enumerate((("noisy", 35), ("clean", 12))):
        nibabel.Nifti1Image(phantom(seed, noise_hu), AFFINE).to_filename(data / f"{pool}.nii.gz")
        pools[pool].append({"image": f"{pool}.nii.gz", "patient": pool})
    (data / "datalist.json").write_text(json.dumps(pools))
    settings = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    config = folder / "bundle" / "configs" / "train.json"
    words = ("--dataset_dir", folder / "data", *settings)
    run("monai.bundle", "run", "training", "--config_file", config, *words, cwd=folder / "bundle")
    words = ("scan.nii.gz", "own.nii.gz", "--bundle", "bundle", "--device", "cpu")
    run("iscl_monai.cli", "denoise", *words, cwd=folder)


CHECKS: tuple[Callable[[Path], None], ...] = (doctor, denoise, bundle_inference, training)


def outcome(check: Callable[[Path], None], folder: Path) -> str:
    """``ok``, or what went wrong."""
    try:
        check(folder)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {str(error)[-600:]}"
    return "ok"


def main() -> int:
    """All checks; a failed one does not keep the others from running."""
    with tempfile.TemporaryDirectory() as name:
        results = {check.__name__: outcome(check, Path(name)) for check in CHECKS}
    names = ("iscl-monai", "torch", "monai", "numpy", "pytorch-ignite", "pydicom")
    print(json.dumps({"python": sys.version.split()[0], **{n: version(n) for n in names}, "checks": results}))
    return 0 if set(results.values()) == {"ok"} else 1


if __name__ == "__main__":
    sys.exit(main())
