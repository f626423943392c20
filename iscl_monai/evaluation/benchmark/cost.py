"""What a denoiser costs: parameters, arithmetic, time and memory for one slice."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iscl_monai.evaluation.benchmark.methods import Method, chosen, submission
from iscl_monai.inference import Denoiser, SliceDenoiser

SIDE_PX = 512
ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one slice of 512x512 pixels on one thread.

    Args:
        parameters: of the networks that are used; NaN where nothing is learned.
        gflop: floating-point operations, two per multiplication and addition; NaN where nothing is learned.
        seconds: CPU time, the least of three.
        peak_mib: resident memory at its highest, of a process that does nothing else.
    """

    parameters: float
    gflop: float
    seconds: float
    peak_mib: float


def cost_of(method: Method, bundle: Path | None) -> Cost:
    """Measure in a process of its own, so that nobody else's memory is counted.

    Args:
        method: not one of denoised images, which cost nobody knows what.
        bundle: of its training; None where nothing was trained.
    """
    name = f"{method.name}={method.source}" if method.source else method.name
    command = [sys.executable, "-W", "ignore", "-m", __name__, name, *([str(bundle)] if bundle else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    held = json.loads(done.stdout.splitlines()[-1])
    return Cost(**{name: math.nan if value is None else value for name, value in held.items()})


def measured_here(denoiser: SliceDenoiser) -> Cost:
    """The cost of a denoiser in this process, whose memory counts as a whole."""
    torch.set_num_threads(1)
    slice_hu = _phantom_slice()
    seconds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        denoiser.change_hu(slice_hu)
        seconds.append(time.process_time() - begun)
    parameters, gflop = _of_networks(denoiser) if isinstance(denoiser, Denoiser) else (math.nan, math.nan)
    return Cost(parameters=parameters, gflop=gflop, seconds=min(seconds), peak_mib=_peak_mib())


def _phantom_slice() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """A noisy disc in air, HU (512, 512)."""
    rows, columns = np.ogrid[:SIDE_PX, :SIDE_PX]
    body = np.hypot(rows - SIDE_PX / 2, columns - SIDE_PX / 2) < 0.4 * SIDE_PX
    noise = np.random.default_rng(0).normal(0, 30, (SIDE_PX, SIDE_PX))
    return np.where(body, 40.0, -1000.0) + noise


def _of_networks(denoiser: Denoiser) -> tuple[float, float]:
    from torch.utils.flop_counter import FlopCounterMode

    network = denoiser.network
    used: list[Any] = {
        "generator": [network.denoiser],
        "extractor": [network.noise_extractor],
        "ensemble": [network.denoiser, network.noise_extractor],
    }[denoiser.mode]
    parameters = sum(int(tensor.numel()) for part in used for tensor in part.parameters())
    x = torch.zeros(1, 1, SIDE_PX, SIDE_PX, device=denoiser.device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(x)
    return float(parameters), counter.get_total_flops() / 1e9


def _peak_mib() -> float:
    """NaN where the system does not tell. Not ru_maxrss: a process begins with the peak of the one that started it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return math.nan
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1024


def main(arguments: Sequence[str]) -> None:
    """Print the cost of one method as JSON."""
    from iscl_monai.evaluation.benchmark.denoisers import denoiser_of

    name, *bundle = arguments
    methods = [submission(name)] if "=" in name else chosen([name])
    method = methods[-1]
    cost = measured_here(denoiser_of(method, Path(bundle[0]) if bundle else None, device="cpu"))
    print(json.dumps({key: None if math.isnan(value) else value for key, value in asdict(cost).items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
