"""One iteration of the U-Nets (unet.json) against one of commit 165802d (small.json), for the same number of patches.

    python benchmarks/iteration.py [--batch 8] [--rounds 8]

Both run on one thread, in processes of their own that take turns; the old one in that commit's files.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairing import table

OLD = "165802d"
NOISE = 0.05


def networks(new: bool) -> dict[str, Any]:
    """The five networks of either config, width 16."""
    import torch

    from iscl_monai import networks as made

    discriminators = {name: made.Discriminator(width=16) for name in ("noisy_discriminator", "clean_discriminator")}
    if new:
        own: dict[str, Any] = {
            "denoiser": made.UNetGenerator(wanted_noise=0.01),
            "degrader": made.UNetGenerator(adds=True),
            "noise_extractor": made.NoiseUNet(wanted_noise=0.01),
        }
        five = {**own, **discriminators}
        return {name: network.to(memory_format=torch.channels_last) for name, network in five.items()}
    return {
        "denoiser": made.Generator(width=16, downsamplings=1, skip="nonlocal"),
        "degrader": made.Generator(width=16, downsamplings=1, skip="identity", reach=3 * NOISE),
        "noise_extractor": made.NoiseExtractor(width=16, layers=10, silent_start=True),
        **discriminators,
    }


def iteration(new: bool, batch: int, warm_up: bool) -> Callable[[], None]:
    """One step of the trainer, on the same patches each time."""
    import torch

    from iscl_monai.losses import LossWeights
    from iscl_monai.training import ISCLTrainer, LookaheadRAdam

    torch.set_num_threads(1)
    torch.manual_seed(0)
    five = networks(new)
    f, g, h, d_x, d_y = (list(network.parameters()) for network in five.values())
    weights: dict[str, float] = {"cycle": 0.0, "zero_mean": 1.0, "nested": 30.0}
    trainer = ISCLTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[],
        epoch_length=1,
        generator_optimizer=torch.optim.RAdam([*f, *g], lr=1e-4),
        discriminator_optimizer=LookaheadRAdam([*d_x, *d_y], lr=1e-4),
        extractor_optimizer=torch.optim.Adam(h, lr=1e-4),
        weights=LossWeights(**weights, **({"harvest": 1.0, "squared": 1.0} if new else {})),
        **five,
    )
    y = 0.2 * torch.rand(batch, 1, 64, 64) - 0.1
    x, harvested = (y + NOISE * torch.randn(y.shape) for _ in range(2))
    if warm_up:
        step: Any = trainer._harvest_step if new else trainer._warm_up_step
    else:
        step = trainer._iscl_step
    given = (x, y, harvested) if new else (x, y)
    return lambda: step(*given)


def serve(side: str, batch: int, warm_up: bool) -> None:
    """Do an iteration for each line that comes, and answer with its CPU seconds."""
    step = iteration(side == "new", batch, warm_up)
    for _ in sys.stdin:
        start = time.process_time()
        step()
        print(time.process_time() - start, flush=True)


def start(side: str, tree: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    """The process of one side."""
    words = [sys.executable, __file__, "--serve", side, "--batch", str(options.batch)]
    return subprocess.Popen(
        [*words, *(["--warm-up"] if options.warm_up else [])],
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tree,
    )


def ask(process: subprocess.Popen[str]) -> float:
    """One iteration."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--warm-up", action="store_true", help="of the warm-up instead")
    parser.add_argument("--serve", choices=("old", "new"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.batch, options.warm_up)
        return
    root = Path(__file__).resolve().parents[1]
    archive = subprocess.run(["git", "archive", OLD, "iscl_monai"], cwd=root, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        sides = {f"commit {OLD}": start("old", Path(folder), options), "U-Nets": start("new", root, options)}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for round_ in range(options.rounds + 2):
            for name, process in sides.items():
                took = ask(process)
                if round_ >= 2:
                    seconds[name].append(took)
        for process in sides.values():
            process.communicate()
    print(table(seconds, f"commit {OLD}"))


if __name__ == "__main__":
    main()
