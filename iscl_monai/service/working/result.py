"""What is measured while a series is denoised, and what of it the database keeps."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from iscl_monai.inference.classic import DenoisedSlice
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.plan import Plan
from iscl_monai.inference.series import Outcome
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.quality.regions import RegionMeasurement
from iscl_monai.service.database.rows import JobRow
from iscl_monai.service.sending.outbox import DerivedObject
from iscl_monai.version import __version__

CHECKS_EVERY_S = 1.0  # whether the job is still wanted
MEASURED_SLICES = 24


class SeriesWatcher:
    """Watches a series being denoised: measures some slices, and does now and then what there is to do between two.

    Args:
        check_wanted: raises when the job is not wanted any more.
        between_slices: called with the slices that are done, and how many there are.
    """

    def __init__(
        self, check_wanted: Callable[[], None], between_slices: Callable[[int, int], object] = lambda done, count: None
    ) -> None:
        self.check_wanted = check_wanted
        self.between_slices = between_slices
        self.regions = RegionMeasurement()
        self._every = 1
        self._checked_at = time.monotonic()
        self._done = self._count = 0

    def begins(self, title: str, count: int, unlike: Sequence[str]) -> None:
        """A series begins; its slices are measured evenly."""
        self._every = max(1, count // MEASURED_SLICES)
        self._count += count

    def slice_written(self, written: DenoisedSlice) -> None:
        """A slice has been written."""
        self._done += 1
        if time.monotonic() - self._checked_at > CHECKS_EVERY_S:
            self.check_wanted()
            self.between_slices(self._done, self._count)
            self._checked_at = time.monotonic()
        if written.index % self._every == 0:
            self.regions.add(written.before_hu, written.after_hu, written.padded)

    def gave_up(self) -> None:
        """The series is refused."""

    def ends(self, folder: Path, done: Plan) -> None:
        """Everything has been written."""
        self.check_wanted()


def reason_to_hold(job: JobRow, outcome: Outcome, training: TrainingRecord) -> str:
    """Why an admin has to look at a job before it is sent; ``""`` when nobody has to.

    What is not known to be like the training is held as well as what is known to be unlike it.

    Args:
        job: its row.
        outcome: of its denoising.
        training: of the weights.
    """
    if not job.hold_unlike:
        return ""
    unlike = "; ".join(sentence for _, sentence in outcome.unlike)
    reasons = [f"unlike the training: {unlike}"] if unlike else []
    if training.knows_noise:
        reasons += [sentence for _, sentence in outcome.unmeasured]
    else:
        reasons.append("the weights do not say what noise they were trained on")
    return f"held: {'; '.join(reasons)}" if reasons else ""


def result_of(
    outcome: Outcome, denoiser: SliceDenoiser, derived: list[DerivedObject], watcher: SeriesWatcher, seconds: float
) -> dict[str, Any]:
    """What the database keeps of a finished job (``jobs.result``), for its page."""
    measured = [one for one in watcher.regions.results() if one.sigma_before_hu == one.sigma_before_hu]
    skipped = Counter(one.reason for one in outcome.skipped)
    return {
        "slices": sum(count for _, count in outcome.series),
        "skipped": [{"reason": reason, "count": count} for reason, count in skipped.items()],
        "derived_series_uids": sorted({one.series_uid for one in derived}),
        "model": denoiser.identity.name,
        "version": denoiser.identity.version,
        "weights_digest": denoiser.identity.weights_digest,
        "parameters": denoiser.parameters,
        "software": __version__,
        "device": denoiser.device.type,
        "seconds": seconds,
        "unfamiliar": [sentence for _, sentence in outcome.unlike],
        "notes": [sentence for _, sentence in (*outcome.unmeasured, *outcome.notes)],
        "regions": [
            {
                "region": one.name,
                "pixels": one.voxels,
                "noise_before_hu": round(one.sigma_before_hu, 2),
                "noise_after_hu": round(one.sigma_after_hu, 2),
                "mean_before_hu": round(one.mean_before_hu, 2),
                "mean_after_hu": round(one.mean_after_hu, 2),
            }
            for one in measured
        ],
    }
