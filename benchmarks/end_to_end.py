"""DICOM in, derived DICOM out: what reading, deriving, writing and reading back cost beside the released networks.

    python benchmarks/end_to_end.py [SERIES] [--slices 300] [--rounds 3] [--weights ensemble student] [--out end.json]

CPU seconds of ``denoise_series`` over those of the network alone on the same slices, in turns: of a folder of DICOM
files, or of a series that is made up. Fails where the ensemble's ratio is above 1.15.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from made_up_series import make_series
from pairing import in_turns

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "iscl"
AT_MOST = 1.15


def measured(series: Path, weights: str, rounds: int) -> dict[str, object]:
    """CPU seconds of both ways, and their ratio."""
    from iscl_monai.dicom.series import read_series
    from iscl_monai.inference import Denoiser, denoise_series, denoise_volume

    denoiser = Denoiser.from_bundle(BUNDLE, device="cpu", weights=weights)
    hu = read_series(series).hu

    def whole() -> None:
        with tempfile.TemporaryDirectory() as place:
            denoise_series(series, Path(place) / "out", denoiser=denoiser)

    denoise_volume(hu[:2], denoiser)  # what the first slice costs more is of neither
    ways = {"network": lambda: denoise_volume(hu, denoiser), "whole": whole}
    seconds = in_turns(ways, rounds=rounds, warm_up=0)
    ratios = [both / alone for alone, both in zip(seconds["network"], seconds["whole"], strict=True)]
    return {"weights": weights, "slices": len(hu), "ratio": statistics.median(ratios), "ratios": ratios, **seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", type=Path, nargs="?")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--weights", nargs="+", default=["ensemble", "student"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        series = options.series or Path(place) / "in"
        if options.series is None:
            make_series(series, options.slices)
        for weights in options.weights:
            rows.append(measured(series, weights, options.rounds))
            print(
                "{weights}, {slices} slices: DICOM to DICOM over the network alone {ratio:.3f}".format(**rows[-1]),
                flush=True,
            )
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    sys.exit(fault(rows))


def fault(rows: list[dict[str, object]]) -> str:
    """What is too slow; nothing if all is well."""
    (slow,) = [row["ratio"] for row in rows if row["weights"] == "ensemble"] or [0.0]
    assert isinstance(slow, float)
    return f"ensemble: {slow:.3f}; allowed: {AT_MOST}" if slow > AT_MOST else ""


if __name__ == "__main__":
    main()
