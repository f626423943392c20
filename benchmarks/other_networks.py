"""Networks of others, at the sizes their authors gave them, with random weights: what a slice costs with them."""

from __future__ import annotations

import argparse
import importlib
import importlib.util

from torch import nn

LDCT_BENCH = {
    "CNN-10": "cnn10",
    "ResNet": "resnet",
    "WGAN-VGG": "wganvgg",
    "QAE": "qae",
    "DU-GAN": "dugan",
    "TransCT": "transct",
}
"""By the modules of ldct-benchmark. Only its networks are taken, so ``pip install --no-deps ldct-benchmark`` is enough;
TransCT needs torchvision, too."""
NEEDS = {"TransCT": "torchvision"}
CYCLEGAN = "CycleGAN, ResNet-9"


def found() -> tuple[str, ...]:
    """Those that can be made here."""
    there = importlib.util.find_spec("ldctbench") is not None
    usable = (name for name in LDCT_BENCH if importlib.util.find_spec(NEEDS.get(name, "torch")) is not None)
    return (*(usable if there else ()), CYCLEGAN)


def made(name: str) -> nn.Module:
    """One of :func:`found`; (1, 1, rows, columns) in and out."""
    if name == CYCLEGAN:
        return resnet_9()
    network: nn.Module = importlib.import_module(f"ldctbench.methods.{LDCT_BENCH[name]}.network").Model(
        argparse.Namespace()
    )
    return network


def resnet_9(width: int = 64) -> nn.Module:
    """CycleGAN's generator for images of 256 and more (Zhu et al., ICCV 2017, section 7.2), of one channel."""
    wide = 4 * width
    return nn.Sequential(
        nn.ReflectionPad2d(3),
        *_normed(nn.Conv2d(1, width, 7)),
        *_normed(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)),
        *_normed(nn.Conv2d(2 * width, wide, 3, stride=2, padding=1)),
        *(ReflectedBlock(wide) for _ in range(9)),
        *_normed(nn.ConvTranspose2d(wide, 2 * width, 3, stride=2, padding=1, output_padding=1)),
        *_normed(nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1)),
        nn.ReflectionPad2d(3),
        nn.Conv2d(width, 1, 7),
        nn.Tanh(),
    )


class ReflectedBlock(nn.Module):
    """Two 3x3 convolutions with instance normalisation around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_normed(nn.Conv2d(channels, channels, 3)),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x):
        return x + self.steps(x)


def _normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, ...]:
    return convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU(inplace=True)
