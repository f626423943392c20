"""The released weights on a slice of 512x512 against RED-CNN of its paper's size, on one thread.

python benchmarks/released_time.py [--rounds 5]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from pairing import in_turns, table

from iscl_monai.networks import DenoisingNetwork, RedCNN

MODELS = Path(__file__).resolve().parents[1] / "bundles" / "iscl" / "models"
RED_CNN_WIDTH = 96


@torch.inference_mode()
def main() -> None:
    """Time ensemble and student beside RED-CNN."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = 0.1 * torch.randn(1, 1, 512, 512)
    networks = {
        "RED-CNN": RedCNN(width=RED_CNN_WIDTH).eval(),
        "ensemble": DenoisingNetwork.from_file(MODELS / "released.pt"),
        "student": DenoisingNetwork.from_file(MODELS / "student.pt"),
    }
    placed = {name: network.to(memory_format=torch.channels_last) for name, network in networks.items()}  # type: ignore[call-overload]
    seconds = in_turns({name: (lambda one=one: one(x)) for name, one in placed.items()}, rounds=options.rounds)  # type: ignore[misc]
    print(table(seconds, "RED-CNN"))


if __name__ == "__main__":
    main()
