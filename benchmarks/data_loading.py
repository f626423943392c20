"""How much of a training's time goes into patches: the trainer must be busy more than 90 % of it.

python benchmarks/data_loading.py [--width 16] [--batch 8] [--steps 20]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from shared_forward import trainer
from torch.utils.data import DataLoader

from iscl_monai.data import Datalist, RunSampler, UnpairedPatches, cached
from iscl_monai.hu import HUWindow
from iscl_monai.phantom import make_dataset
from iscl_monai.training import ISCLTrainer
from iscl_monai.transforms import HUWindowd, augmentation, loading


def main() -> None:
    """Time fetching a batch and training on it, in turns, without workers: the worst case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scans = Datalist.load(make_dataset(Path(folder) / "phantom", size=192, slices=4))
        pools = [cached(pool, loading=loading("image"), progress=False) for pool in (scans.noisy, scans.clean)]
    patches = UnpairedPatches(
        *pools, augmentation=augmentation("image"), windowing=HUWindowd("image", HUWindow(-1000, 1000))
    )
    loader = iter(
        DataLoader(patches, batch_size=options.batch, sampler=RunSampler(options.batch * (options.steps + 1)))
    )
    subject = trainer(ISCLTrainer, options.width)
    fetching = training = 0.0
    for step in range(options.steps + 1):
        start = time.perf_counter()
        batch = next(loader)
        fetched = time.perf_counter()
        subject._iscl_step(batch["noisy"], batch["clean"])
        if step:
            fetching, training = fetching + fetched - start, training + time.perf_counter() - fetched
    print(f"width {options.width}, batch {options.batch}, 64x64 patches, no workers, {torch.get_num_threads()} threads")
    print(
        f"fetching {1e3 * fetching / options.steps:.1f} ms, training {1e3 * training / options.steps:.1f} ms per step"
    )
    print(f"trainer busy {training / (fetching + training):.1%} of the time")


if __name__ == "__main__":
    main()
