"""Fan-beam projection and filtered backprojection, by numba where it is installed, else by torch."""

from __future__ import annotations

import importlib.util
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from iscl_monai.errors import ConfigRefusal
from iscl_monai.scanner import torch_projector
from iscl_monai.scanner.geometry import FanBeam
from iscl_monai.scanner.kernel import Kernel, ramp

Image = NDArray[np.float32]
Backend = Literal["auto", "numba", "torch"]

MU_WATER_PER_MM = 0.0192
"""Attenuation of water at about 70 keV, the effective energy of a 120 kV scan."""

HU_PER_ATTENUATION = 1000 / MU_WATER_PER_MM

OVERSAMPLING = 4
"""Filtered rays are resampled so many times finer, and backprojection takes the nearest sample: an error of at most
1/8 cell, which costs 2.6 % of amplitude at the Nyquist frequency of the detector and less below."""


def chosen_backend(backend: Backend = "auto", device: str | torch.device = "cpu") -> Literal["numba", "torch"]:
    """Which implementation runs.

    Args:
        backend: ``auto`` is numba on a CPU where it is installed, else torch.
        device: where torch would compute.

    Raises:
        ConfigRefusal: an unknown backend, or one that cannot run there.
    """
    kind = _kind(device)
    numba_can = importlib.util.find_spec("numba") is not None and kind == "cpu"
    if backend not in get_args(Backend) or (backend == "numba" and not numba_can):
        raise ConfigRefusal(
            f"backend {backend!r} on {device}",
            allowed="'auto', 'torch', or on a CPU with numba installed 'numba'",
            cure="leave backend out; for numba: pip install 'iscl-monai[data]'",
        )
    return "torch" if backend == "torch" or not numba_can else "numba"


def _kind(device: str | torch.device) -> str:
    """What kind of device it is, if there is one."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if not kind or (kind == "cuda" and not torch.cuda.is_available()):
        raise ConfigRefusal(
            f"device {str(device)!r}", allowed="'cpu', or 'cuda' where torch sees a GPU", cure="leave it out"
        )
    return kind


def forward_project(
    image: Image, geometry: FanBeam, *, backend: Backend = "auto", device: str | torch.device = "cpu"
) -> Image:
    """Integrate an image along rays.

    Args:
        image: (row, column), ``geometry.size`` square, per mm.
        geometry: where the rays run.
        backend: see :func:`chosen_backend`.
        device: where torch computes.

    Returns:
        float32 line integrals (view, cell), without unit.
    """
    image = np.ascontiguousarray(image, np.float32)
    if chosen_backend(backend, device) == "numba":
        from iscl_monai.scanner import numba_projector

        return numba_projector.forward_project(image, geometry)
    sinogram = torch_projector.forward_project(torch.from_numpy(image)[None].to(device), geometry)
    return np.asarray(sinogram[0].cpu().numpy())


def filtered_backprojection(
    sinogram: Image,
    geometry: FanBeam,
    kernel: Kernel,
    *,
    backend: Backend = "auto",
    device: str | torch.device = "cpu",
) -> Image:
    """Reconstruct an image, or an image of noise.

    Args:
        sinogram: (view, cell) line integrals.
        geometry: where the rays run.
        kernel: the window over the ramp.
        backend: see :func:`chosen_backend`.
        device: where torch computes.

    Returns:
        float32 (row, column), per mm. Source: Kak and Slaney, section 3.4.2.
    """
    rays = filtered(sinogram, geometry, kernel)
    return _backproject(rays, geometry, oversampling=OVERSAMPLING, backend=backend, device=device)


def filtered(sinogram: Image, geometry: FanBeam, kernel: Kernel) -> Image:
    """Weight and filter rays, and resample them ``OVERSAMPLING`` times finer, in the same two transforms.

    Args:
        sinogram: (view, cell) line integrals.
        geometry: where the rays run.
        kernel: the window over the ramp.

    Returns:
        float32 (view, fine cell), per mm; half the angle between views is multiplied in, since a full turn sees
        each line twice.
    """
    response = _response(geometry, kernel)
    weighted = sinogram * geometry.cosines().astype(np.float32)
    samples = 2 * (len(response) - 1)
    spectrum = fft.rfft(weighted, n=samples, axis=-1) * response.astype(np.float32)
    fine = fft.irfft(spectrum, n=samples * OVERSAMPLING, axis=-1)[:, : geometry.detectors * OVERSAMPLING]
    rays: Image = fine * np.float32(OVERSAMPLING)
    return rays


def backproject_variance(variance: Image, geometry: FanBeam, kernel: Kernel, *, backend: Backend = "auto") -> Image:
    """Variance of :func:`filtered_backprojection` for independent noise of smoothly changing variance.

    Args:
        variance: (view, cell) of the line integrals.
        geometry: where the rays run.
        kernel: the window over the ramp.
        backend: see :func:`chosen_backend`.

    Returns:
        float32 (row, column), per mm squared. Source: Parseval; rays a filter's width apart have nearly the same
        variance.
    """
    response = _response(geometry, kernel)
    energy = float((2 * np.square(response).sum() - response[0] ** 2 - response[-1] ** 2) / (2 * len(response) - 2))
    rays = (variance * (geometry.cosines() ** 2 * energy)).astype(np.float32)
    return _backproject(rays, geometry, oversampling=1, backend=backend, squared=True)


def _response(geometry: FanBeam, kernel: Kernel) -> NDArray[np.float64]:
    """Of the whole filter at the frequencies of ``rfft``, times half the angle between views."""
    # Long enough that a circular convolution does not wrap into the image.
    samples = 2 * fft.next_fast_len(geometry.detectors, real=True)
    frequencies = np.fft.rfftfreq(samples, geometry.pitch_mm).astype(np.float64)
    response: NDArray[np.float64] = ramp(samples, geometry.pitch_mm) * kernel.at(frequencies) * geometry.view_step / 2
    return response


def _backproject(
    rays: Image,
    geometry: FanBeam,
    *,
    oversampling: int,
    backend: Backend,
    device: str | torch.device = "cpu",
    squared: bool = False,
) -> Image:
    if chosen_backend(backend, device) == "numba":
        from iscl_monai.scanner import numba_projector

        return numba_projector.backproject(rays, geometry, oversampling=oversampling, squared=squared)
    given = torch.from_numpy(rays)[None].to(device)
    image = torch_projector.backproject(given, geometry, oversampling=oversampling, squared=squared)
    return np.asarray(image[0].cpu().numpy())


def attenuation(hu: Image) -> Image:
    """Linear attenuation per mm of Hounsfield units; nothing attenuates less than nothing."""
    mu: Image = np.maximum(np.float32(MU_WATER_PER_MM) * (1 + hu.astype(np.float32) / 1000), 0)
    return mu


def hounsfield(mu: Image) -> Image:
    """Hounsfield units of linear attenuation per mm."""
    hu: Image = (mu / np.float32(MU_WATER_PER_MM) - 1) * 1000
    return hu
