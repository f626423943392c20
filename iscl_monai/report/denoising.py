"""``iscl-monai denoise --report``: takes each slice as it is denoised, and writes a page beside the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iscl_monai.inference.classic import DenoisedSlice
from iscl_monai.inference.familiarity import Comparison
from iscl_monai.inference.plan import Plan
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.report.series import SeriesReport, write_series_report
from iscl_monai.report.write import left_on_purpose, made_by

FILE = "report.html"


class DenoisingReport:
    """A :class:`iscl_monai.inference.series.Watcher` that writes ``report.html`` and ``report.json``.

    Args:
        denoiser: what makes the images; named in the report.
    """

    def __init__(self, denoiser: SliceDenoiser) -> None:
        self.denoiser = denoiser
        self.reports: list[SeriesReport] = []
        self._warnings: list[str] = []  # of each series, in what it is unlike the training

    def begins(self, title: str, count: int, unlike: Sequence[str]) -> None:
        """The next series."""
        left_hu = left_on_purpose(self.denoiser.parameters)
        self.reports.append(SeriesReport(name=title, count=count, left_hu=left_hu))
        self._warnings.append(" ".join(f"{title}: {sentence}." for sentence in unlike))

    def slice_written(self, written: DenoisedSlice) -> None:
        """The next slice of it."""
        self.reports[-1].add(written.index, written.before_hu, written.after_hu, written.padded)

    def gave_up(self) -> None:
        """Forget the series that was begun last."""
        self.reports.pop()
        self._warnings.pop()

    def ends(self, folder: Path, done: Plan) -> None:
        """Write the report; it gets its name together with the images."""
        skipped = [(str(one.path), one.reason) for one in done.skipped]
        skipped += [(refusal.file, f"refused: {refusal}") for refusal in done.refused]
        warnings = " ".join(filter(None, self._warnings))
        notes = " ".join(f"{one.title}: {note}." for one in done.series for note in _notes(one.comparison))
        unlike = f"Unlike what the model was trained on. {warnings}" if warnings else ""
        summary = " ".join(filter(None, (unlike, f"Beside that: {notes}" if unlike and notes else notes)))
        write_series_report(
            folder / FILE, self.reports, made_with=made_by(self.denoiser), skipped=skipped, summary=summary
        )


def _notes(compared: Comparison) -> list[str]:
    return [sentence for sentence in (compared.unmeasured, *compared.notes) if sentence]
