"""Named protocols: everything that a PSNR, SSIM, RMSE or VIF of a CT image depends on.

Between papers these numbers differ by 20 dB on the same image, from window and data range alone. So every number
carries its :class:`Protocol`, is printed with its :attr:`Protocol.identity`, and two identities are never compared.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from iscl_monai.errors import ConfigRefusal
from iscl_monai.hu import HUWindow

NOT_MEASURED_BY = ("name", "body_parts", "note", "unit")
"""What of a protocol changes no number."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything a PSNR, SSIM, RMSE or VIF of a CT image depends on.

    Args:
        name: printed beside every number, with a digest of all the rest.
        window: HU both images are clipped to before PSNR and SSIM; None: not clipped.
        data_range_hu: the peak of PSNR and the range of SSIM, in HU.
        region: ``body``: voxels of :func:`iscl_monai.quality.fidelity.body_mask` of the reference; ``frame``: all of
            the slice.
        ssim_kernel: ``uniform`` with sample covariance (scikit-image's default), or ``gaussian``
            (sigma 1.5 px) with population covariance (Wang et al. 2004).
        ssim_kernel_size: odd side of the SSIM window in pixels.
        error_window: HU both are clipped to before RMSE and mean shift; None: not clipped.
        reference_levels: grey levels over ``window`` that the reference is rounded to before PSNR and SSIM, as in an
            image file of so many; the tested image is not rounded. None: not rounded.
        vif_window: HU both are clipped to before VIF; None: VIF is not measured. Only with ``frame``.
        vif_truth: which of the two stands for the scene in VIF, which is not symmetric.
        body_parts: BodyPartExamined it is meant for; empty: any. Changes no number.
        note: what a reader of the numbers must know. Changes no number.
        unit: of the values; all names that end in ``_hu`` are in it. Changes no number.

    Raises:
        ConfigRefusal: if a range, a size or a combination is not usable.
    """

    name: str
    window: HUWindow | None
    data_range_hu: float
    region: Literal["body", "frame"] = "body"
    ssim_kernel: Literal["uniform", "gaussian"] = "uniform"
    ssim_kernel_size: int = 7
    error_window: HUWindow | None = None
    reference_levels: int | None = None
    vif_window: HUWindow | None = None
    vif_truth: Literal["reference", "test"] = "reference"
    body_parts: tuple[str, ...] = ()
    note: str = ""
    unit: str = "HU"

    def __post_init__(self) -> None:
        if not 0 < self.data_range_hu < np.inf:
            self._refuse("data_range_hu", "a positive, finite number of HU", "give the width that counts, e.g. 2000")
        if self.ssim_kernel_size < 3 or self.ssim_kernel_size % 2 == 0:
            cure = "use 7 with the uniform kernel, 11 with the gaussian one"
            self._refuse("ssim_kernel_size", "an odd number of pixels, 3 or more", cure)
        if self.reference_levels is not None and (self.reference_levels < 2 or self.window is None):
            self._refuse("reference_levels", "2 or more, over a window", "give a window, or leave it out")
        if self.vif_window is not None and self.region != "frame":
            self._refuse("vif_window", "none with region 'body', as VIF is of whole slices", "use region 'frame'")

    def _refuse(self, setting: str, allowed: str, cure: str) -> None:
        raise ConfigRefusal(f"{setting} {getattr(self, setting)} of protocol {self.name}", allowed=allowed, cure=cure)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What it measures: the columns of a :class:`iscl_monai.quality.fidelity.Fidelity`."""
        always = ("psnr_db", "ssim", "rmse_hu", "mean_shift_hu")
        return always if self.vif_window is None else (*always, "vif")

    def settings(self) -> dict[str, Any]:
        """Every setting by name, as JSON can hold it; windows as [lowest, highest] HU."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: [value.lower, value.upper]
            if isinstance(value, HUWindow)
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in held.items()
        }

    @property
    def identity(self) -> str:
        """Name, and 8 hexadecimal digits of all settings that can change a number: ``hu-body:1a2b3c4d``."""
        measured = {
            name: float(value) if isinstance(value, (int, float)) else value
            for name, value in self.settings().items()
            if name not in NOT_MEASURED_BY
        }
        digest = hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()
        return f"{self.name}:{digest[:8]}"

    def fits(self, body_part: str) -> bool:
        """Whether it is meant for this *BodyPartExamined*; an empty one fits every protocol."""
        return not self.body_parts or not body_part or body_part.upper() in self.body_parts


HU_BODY = Protocol(
    name="hu-body",
    window=HUWindow(-1024, 3071),
    data_range_hu=2000,
    error_window=HUWindow(-1024, 3071),
)
"""Ours: inside the skin, clipped only to the 12 bits of CT (padding and metal overflow), range 2000 HU."""

HU_FRAME = Protocol(
    name="hu-frame",
    window=HUWindow(-1024, 3071),
    data_range_hu=2000,
    region="frame",
    error_window=HUWindow(-1024, 3071),
)
"""As ``HU_BODY`` on the whole slice: for patches and pictures without a body."""


def _ldct_bench(region: str, level: float, width: float, body_parts: tuple[str, ...]) -> Protocol:
    """LDCT-Bench (Med Phys 2024, 10.1002/mp.17379), as its ``ldctbench.utils.test_utils.compute_metric`` does it.

    Window as in DICOM PS3.3 C.11.2.1.2.1, to [0, 1]: from level - width/2 to level + width/2 - 1, so that the data
    range is width - 1. Whole frame, scikit-image's defaults. RMSE and VIF on HU + 1024 clipped to [0, 2924]. It calls
    torchmetrics' VIF with the target first, where the prediction belongs, so the tested image stands for the scene:
    what it published is that. Its tables are means over slices, not over patients.
    """
    return Protocol(
        name=f"ldct-bench-{region}",
        window=HUWindow(level - width / 2, level + width / 2 - 1),
        data_range_hu=width - 1,
        region="frame",
        error_window=HUWindow(-1024, 1900),
        vif_window=HUWindow(-1024, 1900),
        vif_truth="test",
        body_parts=body_parts,
        note="the published tables of LDCT-Bench are means over slices, not over patients",
    )


LDCT_BENCH_CHEST = _ldct_bench("chest", -600, 1500, ("CHEST", "THORAX", "LUNG"))
LDCT_BENCH_ABDOMEN = _ldct_bench("abdomen", 50, 400, ("ABDOMEN", "LIVER", "ABDOMENPELVIS"))
LDCT_BENCH_NEURO = _ldct_bench("neuro", 40, 80, ("HEAD", "BRAIN", "NEURO", "SKULL"))

ISCL_8BIT = Protocol(
    name="iscl-8bit",
    window=HUWindow(-1000, 1000),
    data_range_hu=2000,
    region="frame",
    error_window=HUWindow(-1000, 1000),
    reference_levels=256,
    note="the CT window of ISCL's authors is not known: these are not numbers of their paper",
)
"""The scale of ISCL's authors: scikit-image's PSNR and SSIM over 8-bit grey levels (data range 255).

From their released evaluation (``scripts/demo_EM.py``, electron microscopy): the reference has whole grey levels
0..255, the prediction is clipped to 0..255 and not rounded. **Which HU window they mapped CT with is not known**; this
protocol takes -1000 to 1000 HU, so its numbers are not those of their paper. Their mean is over images.
"""

GREY8_FRAME = Protocol(
    name="grey8-frame",
    window=HUWindow(0, 255),
    data_range_hu=255,
    region="frame",
    error_window=HUWindow(0, 255),
    reference_levels=256,
    unit="grey levels",
)
"""Micrographs on the scale of ISCL's authors (``scripts/demo_EM.py``), as for ``ISCL_8BIT``: whole images, range 255,
scikit-image's SSIM over uniform 7x7 pixels; the reference in whole grey levels, the other one clipped, not rounded."""

MR_FRAME = Protocol(
    name="mr-frame",
    window=HUWindow(0, 1250),
    data_range_hu=1000,
    region="frame",
    error_window=HUWindow(0, 1250),
    unit="thousandths of the window",
)
"""MR magnitude in thousandths of the scan's own window, which is the peak of PSNR; whole slices."""

TRUTH_REAL_ANATOMY = replace(
    HU_BODY,
    name="truth-real-anatomy",
    note="the truth is a quiet scan made free of noise by averaging thin slices and by shrinking undecimated B3-spline "
    "wavelet coefficients that its own noise explains; both doses were simulated on it",
)
"""As ``HU_BODY`` against a truth without noise, of real anatomy (:mod:`iscl_monai.scanner.noise_free`).

What the truth lacks of the finest faint texture no method can be asked for, so all errors are a little too kind; none
of the compared filters shrinks these coefficients.
"""

TRUTH_RANDOM_ANATOMY = replace(
    HU_BODY,
    name="truth-random-anatomy",
    note="made-up patients drawn anew by a seed; their truth is exact, their anatomy is smoother than a real one",
)
"""As ``HU_BODY`` against the truth of made-up patients (:mod:`iscl_monai.phantom.anthropomorphic`)."""

TRUTH_PROTOCOLS = {protocol.name: protocol for protocol in (TRUTH_REAL_ANATOMY, TRUTH_RANDOM_ANATOMY)}
"""Errors against a truth without noise, by name: never mixed with those against noisy references."""

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (HU_BODY, HU_FRAME, LDCT_BENCH_CHEST, LDCT_BENCH_ABDOMEN, LDCT_BENCH_NEURO, ISCL_8BIT)
}
"""Against a reference that a scan is, by name."""


def named_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ConfigRefusal: naming the nearest one.
    """
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), PROTOCOLS, n=1, cutoff=0.5)
        cure = f"did you mean {near[0]}?" if near else "give one of them"
        raise ConfigRefusal(f"protocol {name!r}", allowed=", ".join(PROTOCOLS), cure=cure)
    return PROTOCOLS[name]
