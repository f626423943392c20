"""All that is open on a GPU, in one go of at most eight minutes: tests, precision, speed, training, memory, streams.

    python benchmarks/gpu.py [--minutes 8] [--out gpu]          # writes gpu.json and gpu.md
    python benchmarks/gpu.py --small --device cpu               # the same parts in small, to see that they run

Nothing is needed but the repository with its released weights. A part that fails, or for which no time is left, says
so in its place, and the others go on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "iscl"
CUDA_TESTS = ("tests/inference/test_batching.py", "tests/networks/test_unet.py")
TARGET_SLICES_PER_S = 300


@dataclass(frozen=True)
class Setting:
    """Where, how large and how long."""

    device: str
    small: bool
    end: float

    @property
    def side(self) -> int:
        """Of a slice, pixels."""
        return 64 if self.small else 512

    @property
    def on_gpu(self) -> bool:
        """Whether it is one."""
        return self.device != "cpu"

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()


def slices_hu(setting: Setting, count: int) -> np.ndarray:
    """Smooth tissue with 30 HU of noise, (slice, row, column)."""
    from bench import slice_hu

    return np.repeat(slice_hu(setting.side)[None], count, axis=0)


def denoiser(setting: Setting, **options: Any) -> Any:
    """The released ensemble."""
    from iscl_monai.inference import Denoiser

    return Denoiser.from_bundle(BUNDLE, device=setting.device, weights="ensemble", **options)


def seconds(setting: Setting, work: Callable[[], object], *, rounds: int) -> float:
    """Of the fastest of some rounds, after one that does not count."""
    taken = []
    for _ in range(rounds + 1):
        setting.wait()
        start = time.perf_counter()
        work()
        setting.wait()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def tests(setting: Setting) -> dict[str, Any]:
    """Tests of networks and batches, on a machine that has a GPU."""
    if setting.small or importlib.util.find_spec("pytest") is None:
        raise NotDoneError("pytest is not installed, or this is the small run")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CUDA_TESTS]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=setting.end - time.monotonic())
    return {"exit code": done.returncode, "last line": done.stdout.strip().splitlines()[-1:]}


def precision(setting: Setting) -> dict[str, float]:
    """Largest and root mean square difference to this device in float32, HU; and of the device to the CPU."""
    image = slices_hu(setting, 1)[0]
    reference = denoiser(setting).change_hu(image)
    on_cpu = denoiser(Setting("cpu", setting.small, setting.end)).change_hu(image)
    lean = denoiser(setting, precision="bfloat16").change_hu(image)
    answers = {"cpu": on_cpu, "bfloat16": lean}
    found = {}
    for name, answer in answers.items():
        found[f"{name}: largest"] = float(np.abs(answer - reference).max())
        found[f"{name}: rms"] = float(np.sqrt(np.mean((answer - reference) ** 2)))
    return found


def compiled(setting: Setting) -> dict[str, float]:
    """torch.compile against eager: difference in HU, and the time of both."""
    if setting.small:
        raise NotDoneError("torch.compile needs a compiler and half a minute: not in the small run")
    eager, other = denoiser(setting), denoiser(setting)
    other._compute = torch.compile(other.network)
    batch = slices_hu(setting, 8)
    difference = np.abs(eager.change_batch_hu(batch) - other.change_batch_hu(batch)).max()
    rounds = {
        name: seconds(setting, lambda one=one: one.change_batch_hu(batch), rounds=5)
        for name, one in (("eager", eager), ("compiled", other))
    }
    return {"difference, HU": float(difference), **{f"{name}, slices/s": 8 / took for name, took in rounds.items()}}


def throughput(setting: Setting) -> dict[str, float]:
    """Slices per second from host to host, and within the network alone, for batches of several sizes."""
    found: dict[str, float] = {}
    for name in ("float32", "bfloat16"):
        made = denoiser(setting, precision=name)
        for size in (2,) if setting.small else (1, 4, 8, 16, 32):
            batch = slices_hu(setting, size)
            took = seconds(setting, lambda made=made, batch=batch: made.change_batch_hu(batch), rounds=5)
            image = made.hu_window.to_network(torch.from_numpy(batch)[:, None].to(setting.device))
            with torch.inference_mode():
                inside = seconds(setting, lambda made=made, image=image: made._compute(image), rounds=5)
            found[f"{name}, {size} at once: slices/s"] = size / took
            found[f"{name}, {size} at once: share within the network"] = inside / took
    best = max(value for name, value in found.items() if "bfloat16" in name and "slices/s" in name)
    return {**found, "target, slices/s in bfloat16": TARGET_SLICES_PER_S, "best of it": best / TARGET_SLICES_PER_S}


def dicom(setting: Setting) -> dict[str, float]:
    """A series from DICOM to DICOM as the command does it, by the number of processes that read and write."""
    from made_up_series import make_series

    from iscl_monai.inference import denoise_series
    from iscl_monai.inference.batching import GPU_BATCH, batched
    from iscl_monai.parallel import useful_processes

    count, found = (2 if setting.small else 300), {}
    with tempfile.TemporaryDirectory() as place:
        make_series(Path(place) / "in", count)
        for processes in sorted({0, useful_processes(setting.device)}):
            one = batched(denoiser(setting, precision="bfloat16"), size=GPU_BATCH, report=print)
            start = time.perf_counter()
            denoise_series(Path(place) / "in", Path(place) / f"out{processes}", denoiser=one, processes=processes)
            found[f"{processes} processes: slices/s"] = count / (time.perf_counter() - start)
            one.batcher.close()
    return found


def training(setting: Setting) -> dict[str, float]:
    """Iterations per second and peak memory of the three updates, networks and batches of two configs."""
    found: dict[str, float] = {}
    for config in ("train", "paper"):
        step = iteration(setting, config)
        step()
        if setting.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        took = seconds(setting, step, rounds=1 if setting.small else 5)
        found[f"{config}.json: iterations/s"] = 1 / took
        if setting.on_gpu:
            found[f"{config}.json: peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def iteration(setting: Setting, config: str) -> Callable[[], object]:
    """One step of the trainer of a config on random patches; in small, with narrow networks and few patches."""
    from monai.bundle import ConfigParser

    files = [BUNDLE / "configs" / "train.json", *([BUNDLE / "configs" / "paper.json"] if config == "paper" else [])]
    parser = ConfigParser()
    for file in files:
        parser.update(ConfigParser.load_config_file(file))
    parser.update({"train#dataloader": [], "train#handlers": [], "networks#reach": 0.15, "steps_per_epoch": 1})
    parser.update({"device": torch.device(setting.device), "bundle_root": str(BUNDLE), "parallel": parser["networks"]})
    if setting.small:
        parser.update({"width": 4, "extractor_width": 4, "residual_blocks": 1, "batch_size": 1, "patch_size": 64})
    parts = {name: parser.get_parsed_content(f"networks#{name}").to(setting.device) for name in NETWORKS}
    for name, network in parts.items():
        parser[f"parallel#{name}"] = network
    trainer = parser.get_parsed_content("train#trainer")
    side, batch = int(parser["patch_size"]), int(parser["batch_size"])
    y = 0.2 * torch.rand(batch, 1, side, side, device=setting.device) - 0.1
    x = y + 0.05 * torch.randn_like(y)
    return lambda: trainer._iscl_step(x, y)


NETWORKS = ("denoiser", "degrader", "noise_extractor", "noisy_discriminator", "clean_discriminator")


def memory(setting: Setting) -> dict[str, float]:
    """Peak memory of a batch on the GPU, MiB."""
    if not setting.on_gpu:
        raise NotDoneError("no GPU: peaks of a CPU are in growth.py")
    found = {}
    for size in (1, 8, 32):
        made, batch = denoiser(setting), slices_hu(setting, size)
        torch.cuda.reset_peak_memory_stats()
        made.change_batch_hu(batch)
        found[f"{size} at once"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def streams(setting: Setting) -> dict[str, float]:
    """Two batches after one another against the second begun before the first is waited for."""
    made, batch = denoiser(setting), slices_hu(setting, 2 if setting.small else 8)

    def in_turn() -> None:
        for _ in range(4):
            made.change_batch_hu(batch)

    def overlapping() -> None:
        begun = [made.begin_batch_hu(batch)]
        for _ in range(3):
            begun.append(made.begin_batch_hu(batch))
            begun.pop(0)()
        begun.pop()()

    one, other = (seconds(setting, work, rounds=3) for work in (in_turn, overlapping))
    return {"overlapping over in turn": other / one}


PARTS = (precision, throughput, training, dicom, streams, memory, compiled, tests)


class NotDoneError(Exception):
    """Why a part is left out."""


def measured(setting: Setting) -> dict[str, Any]:
    """Every part, or why it is missing."""
    results: dict[str, Any] = {}
    for part in PARTS:
        try:
            if time.monotonic() > setting.end:
                raise NotDoneError("no time was left")
            results[part.__name__] = part(setting)
        except NotDoneError as reason:
            results[part.__name__] = {"not done": str(reason)}
        except Exception as error:
            results[part.__name__] = {"failed": traceback.format_exception_only(error)[-1].strip()}
            traceback.print_exc()
        print(part.__name__, json.dumps(results[part.__name__]), flush=True)
    return results


def machine(setting: Setting) -> dict[str, Any]:
    """What it was measured on."""
    gpu = torch.cuda.get_device_name() if setting.on_gpu else "none"
    return {
        "gpu": gpu,
        "cpu": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "small": setting.small,
    }


def page(document: dict[str, Any]) -> str:
    """The same as Markdown."""
    lines = ["# On a GPU", "", *(f"- {name}: {value}" for name, value in document["machine"].items()), ""]
    for part, found in document["results"].items():
        summary = next(one.__doc__ for one in PARTS if one.__name__ == part)
        lines += [f"## {part}", "", str(summary).strip(), "", "| what | value |", "|---|---|"]
        lines += [
            f"| {name} | {f'{value:.4g}' if isinstance(value, float) else value} |" for name, value in found.items()
        ]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    options = parser.parse_args()
    if options.device == "cpu" and not options.small:
        sys.exit("no GPU here; allowed: a machine with one; do: give --small to see that the parts run")
    setting = Setting(options.device, options.small, time.monotonic() + 60 * options.minutes)
    document = {"machine": machine(setting), "results": measured(setting)}
    options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(page(document), encoding="utf-8")


if __name__ == "__main__":
    main()
