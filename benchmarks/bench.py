"""What a slice of 512x512 costs: the released networks, those of others, and methods that learn nothing, in one run.

python benchmarks/bench.py [--rounds 3] [--side 512] [--only student ...] [--out bench.json]

Parameters, multiplications and additions (counted), CPU seconds on one thread in turns, the ratio to RED-CNN in the
same round, the share of what a product of matrices reaches on that thread, and the peak memory of a process of its own.
The released networks are timed from HU to HU, those of others alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import other_networks
import torch
from pairing import in_turns
from torch.utils.flop_counter import FlopCounterMode

from iscl_monai.baselines import CLASSICAL
from iscl_monai.hu import HUWindow
from iscl_monai.inference import Denoiser
from iscl_monai.networks import RedCNN

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "iscl"
RED_CNN = "RED-CNN"
RED_CNN_WIDTH = 96
NETWORKS = ("ensemble", "ensemble, OpenVINO", "student", "student, OpenVINO")
FILTERS = ("nlm", "tv", "bm3d")
WAYS = (RED_CNN, *NETWORKS, *other_networks.found(), *FILTERS)
MATRICES = "product of matrices"
MATRIX_SIDE = 1024
Way = Callable[[], object]


def slice_hu(side: int) -> np.ndarray:
    """Smooth tissue with 30 HU of noise."""
    rng = np.random.default_rng(0)
    smooth = torch.from_numpy(rng.normal(0, 200, (1, 1, 16, 16)))
    tissue = torch.nn.functional.interpolate(smooth, size=(side, side), mode="bilinear")[0, 0].numpy()
    return (tissue + rng.normal(0, 30, (side, side))).astype(np.float32)


def way(name: str, image: np.ndarray) -> tuple[Way, torch.nn.Module | None]:
    """The call that is timed, and its network if it has one."""
    if name == RED_CNN or name in other_networks.found():
        network = RedCNN(width=RED_CNN_WIDTH) if name == RED_CNN else other_networks.made(name)
        network = network.eval().to(memory_format=torch.channels_last)
        x = HUWindow(-1000.0, 1000.0).to_network(torch.from_numpy(image))[None, None]
        return torch.inference_mode()(lambda: network(x)), network
    if name in NETWORKS:
        weights, _, fast = name.partition(", ")
        runtime = "openvino" if fast else "torch"
        denoiser = Denoiser.from_bundle(BUNDLE, device="cpu", weights=weights, runtime=runtime)
        return lambda: denoiser.change_hu(image), denoiser.network
    method = CLASSICAL[name]()
    return lambda: method.change_hu(image), None


def product_of_matrices() -> Way:
    """The most that one thread computes: the peak that the rows are shares of."""
    one = torch.rand(MATRIX_SIDE, MATRIX_SIDE)
    return lambda: [one @ one for _ in range(20)]


def share_of_peak(gflop: float | None, seconds: float, matrices_s: float) -> float | None:
    """GFLOP a second over those of a product of matrices in the same run."""
    peak = 20 * 2 * MATRIX_SIDE**3 / 1e9 / matrices_s
    return None if gflop is None else gflop / seconds / peak


def counted(network: torch.nn.Module | None, side: int) -> tuple[int | None, float | None]:
    """Parameters, and GFLOP (two for each multiplication with its addition)."""
    if network is None:
        return None, None
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, side, side))
    used = sum(one.numel() for name, one in network.named_parameters() if used_by(network, name))
    return used, counter.get_total_flops() / 1e9


def used_by(network: torch.nn.Module, name: str) -> bool:
    """A student's file has an H, which it does not use."""
    return getattr(network, "mode", "") != "generator" or not name.startswith("noise_extractor")


def peak_mib(name: str, side: int) -> float:
    """Of a process of its own that does it twice."""
    command = [sys.executable, __file__, "--peak-of", name, "--side", str(side)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def own_peak_mib() -> float:
    """Of this process. ``ru_maxrss`` would be that of the process that started it, if larger."""
    (peak,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def machine() -> dict[str, object]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "cpu": cpu.partition(": ")[2] or platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak-of", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    image = slice_hu(options.side)
    if options.peak_of:
        call, _ = way(options.peak_of, image)
        call(), call()
        print(own_peak_mib())
        return
    names = list(dict.fromkeys((RED_CNN, *options.only)))
    made = {name: way(name, image) for name in names}
    ways = {MATRICES: product_of_matrices(), **{name: call for name, (call, _) in made.items()}}
    seconds = in_turns(ways, rounds=options.rounds)
    rows = [row(name, made[name][1], seconds, options.side) for name in names]
    print(
        "| method | parameters | GFLOP | CPU-s | of RED-CNN's (least to most) | of the peak | peak MiB |\n"
        "|---|---|---|---|---|---|---|"
    )
    for one in rows:
        print(line(one))
    if options.out:
        options.out.write_text(json.dumps({"machine": machine(), "side": options.side, "rows": rows}, indent=1) + "\n")


def row(name: str, network: torch.nn.Module | None, seconds: dict[str, list[float]], side: int) -> dict[str, object]:
    ratios = [own / base for own, base in zip(seconds[name], seconds[RED_CNN], strict=True)]
    parameters, gflop = counted(network, side)
    cpu_s = statistics.median(seconds[name])
    return {
        "method": name,
        "parameters": parameters,
        "gflop": gflop,
        "cpu_s": cpu_s,
        "of_peak": share_of_peak(gflop, cpu_s, statistics.median(seconds[MATRICES])),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "peak_mib": peak_mib(name, side),
    }


def line(one: dict[str, object]) -> str:
    parameters = "-" if one["parameters"] is None else f"{one['parameters']:,}"
    gflop = "-" if one["gflop"] is None else f"{one['gflop']:.1f}"
    of_peak = "-" if one["of_peak"] is None else f"{one['of_peak']:.2f}"
    ratios: list[float] = one["ratios"]  # type: ignore[assignment]
    return (
        f"| {one['method']} | {parameters} | {gflop} | {one['cpu_s']:.3f}"
        f" | {one['ratio']:.3f} ({min(ratios):.3f} to {max(ratios):.3f}) | {of_peak}"
        f" | {one['peak_mib']:.0f} |"
    )


if __name__ == "__main__":
    main()
