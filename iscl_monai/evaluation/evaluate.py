"""Measure denoised scans: one pair, all pairs of a datalist, or a scan of which there is no truth.

>>> from iscl_monai import evaluate_datalist
>>> evaluation = evaluate_datalist("D", bundle="runs/a", protocol="ldct-bench-abdomen")  # doctest: +SKIP
>>> evaluation.cohorts["denoised"].estimates["psnr_db"].mean  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iscl_monai.data import Datalist, ScanPair
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation import no_reference
from iscl_monai.evaluation.outcome import all_notices, write_outcome, write_scores
from iscl_monai.evaluation.pairs import Denoised, denoised_pairs, judged_by_reference, pairs_in, read_pair
from iscl_monai.evaluation.scans import Scan, check_same_place, read_scan
from iscl_monai.evaluation.scores import Scores
from iscl_monai.evaluation.submission import (
    NOT_CHECKED,
    DenoisedFolder,
    ReadScans,
    SubmittedFunction,
    check_not_reference,
    named_denoiser,
)
from iscl_monai.evaluation.training_record import refuse_seen
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.slice_denoiser import SliceDenoiser, denoise_volume
from iscl_monai.quality.before_after import BeforeAfter
from iscl_monai.quality.cohort import Cohort
from iscl_monai.quality.protocol import TRUTH_PROTOCOLS, named_protocol
from iscl_monai.report.write import left_on_purpose, made_by, provenance

Progress = Callable[[int, int], object]
"""Called with the pairs that are done and the pairs there are, before the first and after each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Scans measured against their references.

    Args:
        scores: all numbers against references, and the slices to be pictured.
        against_truth: all numbers against truths, one for each protocol of them; those are never mixed.
        made_with: versions, and what denoised.
        checked: whether the weights have seen a patient, in words; empty where no weights were used.
    """

    scores: Scores
    made_with: Mapping[str, str]
    checked: str = ""
    against_truth: Sequence[Scores] = ()

    @property
    def cohorts(self) -> dict[str, Cohort]:
        """Over patients: ``denoised``, and where the noisy input is known ``noisy`` and ``gain``."""
        return self.scores.cohorts()

    @property
    def notices(self) -> list[str]:
        """What a reader of the numbers must know."""
        return [*all_notices(self.scores, self.against_truth), *([self.checked] if self.checked else [])]

    @property
    def body_parts(self) -> list[str]:
        """BodyPartExamined of all scans, each once; empty text where it is not given."""
        return sorted({pair.body_part for pair in self.scores.pairs})

    def write(self, folder: Path | str) -> Path:
        """Write ``metrics.json`` and ``report.html`` into a folder that is made for them.

        Raises:
            OutputRefusal: if the folder is taken or cannot be written.
        """
        return write_scores(
            Path(folder),
            self.scores,
            against_truth=self.against_truth,
            made_with=self.made_with,
            checked=self.checked,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A scan before and after, of which there is no truth.

    Args:
        noisy: before.
        denoised: after.
        panel: all numbers.
        made_with: versions, and what denoised.
    """

    noisy: Scan
    denoised: Scan
    panel: BeforeAfter
    made_with: Mapping[str, str]

    @property
    def body_part(self) -> str:
        """BodyPartExamined; empty where it is not given."""
        return self.noisy.body_part

    def write(self, folder: Path | str) -> Path:
        """Write ``metrics.json`` and ``report.html`` into a folder that is made for them.

        Raises:
            OutputRefusal: if the folder is taken or cannot be written.
        """
        numbers = no_reference.panel_content(self.panel)
        return write_outcome(
            Path(folder),
            {**numbers, "body_part": self.body_part, "made_with": dict(self.made_with)},
            title="Before and after, without a reference",
            cases=no_reference.panel_cases(
                self.noisy.source.name, self.noisy, self.denoised, self.panel, left_hu=left_on_purpose(self.made_with)
            ),
            made_with=self.made_with,
            summary=f"{no_reference.CANNOT_TELL}.",
            sections=[no_reference.texture_section(self.panel.texture)],
        )


def evaluate_pair(
    denoised: Path | str,
    reference: Path | str,
    *,
    noisy: Path | str | None = None,
    protocol: str = "hu-body",
    trust_hu: bool = False,
) -> Evaluation:
    """Measure one denoised scan against its reference.

    Args:
        denoised: DICOM series or volume file.
        reference: likewise, voxel by voxel at the same place.
        noisy: what was denoised, likewise, to be measured beside it.
        protocol: what is measured, a name of :data:`iscl_monai.quality.protocol.PROTOCOLS`.
        trust_hu: volume files only: see :func:`iscl_monai.dicom.images.read_image`.

    Raises:
        Refusal: a protocol that does not exist, or whatever cannot be read or compared.
    """
    scores = Scores(named_protocol(protocol))
    with without_warnings():
        scores.add(
            read_pair(Path(denoised), Path(reference), None if noisy is None else Path(noisy), trust_hu=trust_hu)
        )
    return Evaluation(scores=scores, made_with=provenance())


def evaluate_datalist(
    datalist: Path | str,
    *,
    bundle: Path | str | None = None,
    denoised: Path | str | None = None,
    method: str | None = None,
    protocol: str = "hu-body",
    section: str = "test",
    device: str = "auto",
    target_noise_hu: float | None = None,
    trust_hu: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Denoise all pairs of a section in memory, or read what was made of them, and measure them.

    Pairs with a truth are measured against it, on the protocol of their truth; against their references only if every
    pair has a truth (:func:`iscl_monai.evaluation.pairs.judged_by_reference`).

    One of ``bundle``, ``denoised`` and ``method`` is given.

    Args:
        datalist: the file, or the folder it lies in.
        bundle: folder of a trained bundle. If it says which patients it was trained on, these are not scored.
        denoised: folder of denoised scans, see :class:`iscl_monai.evaluation.submission.DenoisedFolder`.
        method: name of a filter or installed method, or ``file.py:function``, see
            :func:`iscl_monai.evaluation.submission.named_denoiser`.
        protocol: see :func:`evaluate_pair`.
        section: ``test`` or ``validation``.
        device: ``auto``, ``cpu`` or ``cuda``.
        target_noise_hu: that ``bundle`` is to leave, see :meth:`iscl_monai.inference.denoiser.Denoiser.from_bundle`.
        trust_hu: see :func:`evaluate_pair`.
        progress: see ``Progress``.

    Raises:
        LeakRefusal: a patient that the weights have seen.
        Refusal: whatever cannot be read, denoised or compared.
    """
    measured = named_protocol(protocol)
    scans = Datalist.load(datalist)
    pairs = pairs_in(scans, section)
    options: dict[str, Any] = {"device": device, "target_noise_hu": target_noise_hu}
    made = _made_by(scans, pairs, bundle, denoised, method, options=options, trust_hu=trust_hu)
    scores, against_truth = Scores(measured, left_hu=made.left_hu), dict[str, Scores]()
    progress = progress or (lambda done, total: None)
    by_reference = judged_by_reference([pair.truth for pair in pairs])
    progress(0, len(pairs))
    with without_warnings():
        for done, pair in enumerate(denoised_pairs(pairs, made.denoised, trust_hu=trust_hu), start=1):
            if denoised is not None:
                check_not_reference(pair.denoised_hu, pair.reference.hu, pairs[done - 1])
            if by_reference[done - 1]:
                scores.add(pair)
            if pair.truth is not None:
                known = TRUTH_PROTOCOLS[pair.truth_protocol]
                truths = against_truth.setdefault(known.name, Scores(known, left_hu=made.left_hu))
                truths.add(replace(pair, reference=pair.truth))
            progress(done, len(pairs))
    return Evaluation(
        scores=scores,
        against_truth=list(against_truth.values()),
        made_with=made.described(),
        checked=made.checked,
    )


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What is measured: results of a method, how reports describe it, and what is known of what it has seen."""

    denoised: Denoised
    described: Callable[[], dict[str, str]]
    checked: str
    left_hu: float | None = None


def _made_by(
    scans: Datalist,
    pairs: Sequence[ScanPair],
    bundle: Path | str | None,
    denoised: Path | str | None,
    method: str | None,
    *,
    options: Mapping[str, Any],
    trust_hu: bool,
) -> _Made:
    given = [name for name, value in (("bundle", bundle), ("denoised", denoised), ("method", method)) if value]
    if len(given) != 1:
        raise ConfigRefusal(
            " and ".join(given) or "neither bundle, denoised nor method",
            allowed="one of bundle, denoised and method",
            cure="say once what denoised, or what is to denoise",
        )
    if denoised is not None:
        images = ReadScans(DenoisedFolder.find(denoised, pairs), trust_hu=trust_hu)
        return _Made(denoised=images, described=lambda: provenance() | images.described(), checked=NOT_CHECKED)
    if bundle is not None:
        patients = [pair.patient for pair in pairs]
        checked = refuse_seen(Path(bundle), patients, split_protocol=scans.split_protocol)
        denoiser: SliceDenoiser = Denoiser.from_bundle(bundle, **options)
    else:
        denoiser = named_denoiser(method or "")
        checked = NOT_CHECKED if isinstance(denoiser, SubmittedFunction) else ""
    return _Made(
        denoised=lambda _, noisy: denoise_volume(noisy.hu, denoiser),
        described=lambda: made_by(denoiser),
        checked=checked,
        left_hu=left_on_purpose(denoiser.parameters),
    )


def evaluate_without_reference(
    noisy: Path | str,
    denoised: Path | str | None = None,
    *,
    bundle: Path | str | None = None,
    device: str = "auto",
    target_noise_hu: float | None = None,
    trust_hu: bool = False,
) -> Comparison:
    """Measure a denoised scan of which there is no truth; that cannot tell whether a lesion was kept.

    Args:
        noisy: DICOM series or volume file.
        denoised: likewise, voxel by voxel at the same place; None where ``bundle`` denoises.
        bundle: folder of a trained bundle; None where ``denoised`` is given.
        device: ``auto``, ``cpu`` or ``cuda``.
        target_noise_hu: that ``bundle`` is to leave, see :meth:`iscl_monai.inference.denoiser.Denoiser.from_bundle`.
        trust_hu: see :func:`evaluate_pair`.

    Raises:
        Refusal: both or neither of ``denoised`` and ``bundle``, or whatever cannot be read, denoised or compared.
    """
    if (denoised is None) == (bundle is None):
        raise ConfigRefusal(
            "both or neither of a denoised scan and a bundle",
            allowed="one of the two",
            cure="give what was denoised, or what is to denoise",
        )
    denoiser = None if bundle is None else Denoiser.from_bundle(bundle, device=device, target_noise_hu=target_noise_hu)
    with without_warnings():
        before = read_scan(Path(noisy), trust_hu=trust_hu)
        if denoiser is None:
            after = read_scan(Path(denoised or noisy), trust_hu=trust_hu)
            check_same_place(before, after)
        else:
            after = before.with_hu(denoise_volume(before.hu, denoiser))
        panel = no_reference.measured(before, after)
    made_with = provenance() if denoiser is None else made_by(denoiser)
    return Comparison(noisy=before, denoised=after, panel=panel, made_with=made_with)
