"""A dataset whose simulated noise is wrong: what says what noise is, when the simulator does not know it.

    python benchmarks/wrong_noise.py DATASET OUT
    python -m monai.bundle run training --config_file "[train.json, small.json, unet.json, harvest_alone.json]" \\
        --dataset_dir OUT --simulated_share 1 --epochs 3 --steps_per_epoch 400 ...
    python -m monai.bundle run training --config_file "[train.json, small.json, unet.json]" \\
        --dataset_dir DATASET --start_from OUT_MODEL --learning_rate 0.0007 --epochs 2 --steps_per_epoch 400 ...

The noise of each noisy scan of DATASET over its reference is blurred by a 3x3 mean and made 0.7 times as loud. Scans
and references are written as NIfTI, everything else stays where it is. docs/benchmark.md has what such noise does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch.nn.functional import avg_pool2d, pad

from iscl_monai.data import Datalist
from iscl_monai.data.scan import PoolScan
from iscl_monai.transforms import loading, on_axes_of

LOUDNESS = 0.7
WIDTH_PX = 3


def wrong(noise: torch.Tensor) -> torch.Tensor:
    """Blurred within slices, and quieter; (1, row, column, slice), HU."""
    slices = noise.permute(3, 0, 1, 2)
    reach = WIDTH_PX // 2
    blurred = avg_pool2d(pad(slices, (reach,) * 4, mode="reflect"), WIDTH_PX, stride=1)
    return (LOUDNESS * noise.std() / blurred.std() * blurred).permute(1, 2, 3, 0)


def written(image: Any, like: Any, path: Path) -> str:
    """Write HU as NIfTI, at the place of a loaded image; the file's name."""
    stored = np.rint(image[0].numpy()).clip(-32768, 32767).astype(np.int16)
    nib.save(nib.Nifti1Image(stored, np.asarray(like.affine)), path)
    return path.name


def made_wrong(scan: PoolScan, number: int, out: Path) -> dict[str, Any]:
    """The entry of a noisy scan with wrong noise."""
    images = loading(["image", "reference"])(scan.item() | {"reference": str(scan.reference)})
    reference = on_axes_of(images["image"], images["reference"])
    quiet = reference.as_tensor().float()
    noisy = quiet + wrong(images["image"].as_tensor().float() - quiet)
    return {
        "image": written(noisy, images["image"], out / f"{number:03d}_noisy.nii"),
        "reference": written(quiet, images["image"], out / f"{number:03d}_reference.nii"),
        "patient": scan.patient,
        "dose": scan.dose,
    }


def main() -> None:
    """Write the dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a folder with datalist.json")
    parser.add_argument("out", type=Path, help="a new folder")
    options = parser.parse_args()
    scans = Datalist.load(options.dataset)
    options.out.mkdir(parents=True)  # an older one may hold other scans
    noisy = [made_wrong(scan, number, options.out) for number, scan in enumerate(scans.noisy) if scan.reference]
    clean = [
        {name: value for name, value in scan.item().items() if name != "image_path"} | {"patient": scan.patient}
        for scan in scans.clean
    ]
    (options.out / "datalist.json").write_text(json.dumps({"noisy": noisy, "clean": clean}, indent=1))
    print(f"{len(noisy)} noisy scans with wrong noise, {len(clean)} clean ones: {options.out}")


if __name__ == "__main__":
    main()
