"""Inference of H and F at 512x512 with fused normalisations against a literal port of the authors' layer.

python benchmarks/normalisation.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import copy

import torch
from pairing import in_turns, table
from torch import Tensor, nn

from iscl_monai.networks import Generator, NoiseExtractor, fold_normalisation, gather_statistics, set_statistics
from iscl_monai.networks.blocks import NormedConv


class LiteralNormalization(nn.Module):
    """Both normalisations of the current batch, written out, as the authors' layer does at training and test."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rho, self.gamma = torch.ones(1, channels, 1, 1), torch.ones(1, channels, 1, 1)
        self.beta = torch.zeros(1, channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, rows, columns)."""
        batch_variance, batch_mean = torch.var_mean(x, dim=(0, 2, 3), keepdim=True, correction=0)
        instance_variance, instance_mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
        by_batch = (x - batch_mean) * torch.rsqrt(batch_variance + 1e-5)
        by_instance = (x - instance_mean) * torch.rsqrt(instance_variance + 1e-5)
        return (self.rho * by_batch + (1 - self.rho) * by_instance) * self.gamma + self.beta


def literal(network: nn.Module) -> nn.Module:
    """The same network with the literal layer everywhere."""
    port = copy.deepcopy(network)
    for module in port.modules():
        if isinstance(module, NormedConv):
            module.norm = LiteralNormalization(module.conv.out_channels)
    return port.eval()


def variants(network: nn.Module) -> dict[str, nn.Module]:
    """All ways of the same network."""
    gather_statistics(network, [torch.rand(4, 1, 64, 64) * 2 - 1])
    ways = {"literal port": literal(network), "per_slice": copy.deepcopy(network), "frozen": copy.deepcopy(network)}
    set_statistics(ways["per_slice"], "per_slice")
    ways["frozen, folded"] = fold_normalisation(copy.deepcopy(network))
    return {name: way.eval() for name, way in ways.items()}


@torch.inference_mode()
def main() -> None:
    """Time all variants of H and F on one 512x512 slice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    x = torch.rand(1, 1, 512, 512) * 2 - 1
    print(f"authors' sizes, one 512x512 slice, {torch.get_num_threads()} threads")
    for name, network in (("H", NoiseExtractor()), ("F", Generator())):
        ways = variants(network)
        seconds = in_turns({key: (lambda way=way: way(x)) for key, way in ways.items()}, rounds=options.rounds)  # type: ignore[misc]
        print(f"{name}\n{table(seconds, 'literal port')}")
        same = float((ways["literal port"](x) - ways["per_slice"](x)).abs().max())
        print(f"largest difference of per_slice to the literal port: {same:.1e}")


if __name__ == "__main__":
    main()
