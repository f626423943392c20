"""``iscl-monai denoise --modality``: micrographs and MR magnitude."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iscl_monai.cli.bundle import found_bundle
from iscl_monai.console import DISCLAIMER, say
from iscl_monai.errors import ConfigRefusal
from iscl_monai.report.numbers import counted

if TYPE_CHECKING:
    from iscl_monai.inference import Denoiser, TrainingRecord


@dataclass(frozen=True)
class Other:
    """Options of ``denoise`` that such images know; those of one kind are refused with the other."""

    bundle: Path | None
    weights: str | None
    mode: str
    strength: float
    device: str
    runtime: str
    tile_px: int | None
    series_uid: str | None
    grey_range: tuple[float, float] | None
    allow_holes: bool
    report: bool


def refuse_micrograph_options(modality: str, grey_range: tuple[float, float] | None, *, allow_holes: bool) -> None:
    """Refuse options of micrographs for other images.

    Raises:
        ConfigRefusal: one was given.
    """
    given = (("--grey-range", grey_range is not None), ("--allow-holes", allow_holes))
    _refuse_options(modality, [name for name, one in given if one])


def denoise_other(modality: str, source: Path, destination: Path, options: Other, *, refused: Sequence[str]) -> None:
    """Denoise images of another domain than CT.

    Args:
        modality: ``micrograph`` or ``mr``.
        source: file or folder.
        destination: what to make.
        options: of the command line.
        refused: options of CT alone that were given.

    Raises:
        Refusal: whatever would have to be guessed, or cannot be written.
    """
    if modality not in WORK:
        raise ConfigRefusal(f"--modality {modality}", allowed="ct, micrograph, mr", cure="give one of them")
    _refuse_options(modality, refused)
    from iscl_monai.durable import check_free
    from iscl_monai.inference.places import check_places, check_source

    check_source(source)
    check_places(source, destination)
    check_free(destination)
    report = _report_of(source, destination) if options.report else None
    if report is not None:
        check_free(report)
        check_free(report.with_suffix(".json"))
    WORK[modality](source, destination, options, report)
    say(f"written: {destination} ({DISCLAIMER})")
    if report is not None:
        say(f"written: {report}")


def _report_of(source: Path, destination: Path) -> Path:
    """In the folder that is made, or beside the file, where the reports of CT are."""
    if source.is_dir():
        return destination / "report.html"
    stem = destination.name.removesuffix(".gz")
    return destination.with_name(f"{stem.rpartition('.')[0] or stem}.report.html")


def _refuse_options(modality: str, given: Sequence[str]) -> None:
    if given:
        raise ConfigRefusal(
            f"{', '.join(given)} with --modality {modality}",
            allowed="options that such images have",
            cure="leave them out",
        )


def _loaded(options: Other, domain: str) -> tuple[Denoiser, TrainingRecord]:
    """The denoiser, and what its weights know of their training."""
    from iscl_monai.inference import Denoiser, TrainingRecord

    bundle = found_bundle(options.bundle)
    denoiser = Denoiser.from_bundle(
        bundle,
        weights=options.weights,
        mode=options.mode,
        strength=options.strength,
        device=options.device,
        runtime=options.runtime,
        tile_px=options.tile_px,
        domain=domain,
    )
    return denoiser, TrainingRecord.of_bundle(bundle, options.weights)


def _micrographs(source: Path, destination: Path, options: Other, report: Path | None) -> None:
    if options.series_uid is not None:
        _refuse_options("micrograph", ["--series"])
    from iscl_monai.inference.micrographs import before_and_after, denoise_micrographs

    denoiser, training = _loaded(options, "micrograph")
    with _progress("sections") as progress:
        outcome = denoise_micrographs(
            source,
            destination,
            denoiser=denoiser,
            grey_range=options.grey_range,
            allow_holes=options.allow_holes,
            training=training,
            begins=progress.begins,
            progress=progress,
        )
    done = outcome.written
    for path in done.left_aside:
        say(f"skipped: {path}: {'a folder within' if path.is_dir() else 'no micrograph'}")
    say(f"denoised: {source.name}, {counted(done.sections, 'section')}, {done.changed} of {done.pixels} pixels changed")
    if done.clipped.low or done.clipped.high:
        say(f"note: clipped to the range of the type: {done.clipped.low} dark, {done.clipped.high} bright pixels")
    for sentence in outcome.unlike:
        say(f"warning: {source.name}: {sentence}")
    if report is not None:
        from iscl_monai.report.series import MOST_SLICES

        count, images = before_and_after(
            source,
            destination,
            grey_range=options.grey_range,
            allow_holes=options.allow_holes,
            most=MOST_SLICES,
        )
        _write_report(report, source, "micrograph", denoiser, count, images, outcome.unlike)


def _magnitude(source: Path, destination: Path, options: Other, report: Path | None) -> None:
    given = [
        name for name, one in (("--grey-range", options.grey_range), ("--allow-holes", options.allow_holes)) if one
    ]
    _refuse_options("mr", given)
    from iscl_monai.inference.magnitudes import before_and_after, denoise_magnitude

    denoiser, training = _loaded(options, "mr")
    with _progress("slices") as progress:
        done = denoise_magnitude(
            source,
            destination,
            denoiser=denoiser,
            series_uid=options.series_uid,
            training=training,
            begins=progress.begins,
            progress=progress,
        )
    say(f"denoised: {source.name}, {counted(done.slices, 'slice')}")
    for difference in done.compared.unlike:
        say(f"warning: {source.name}: {difference.sentence}")
    if done.compared.unmeasured:
        say(f"note: {source.name}: {done.compared.unmeasured}")
    if report is not None:
        from iscl_monai.report.series import MOST_SLICES

        count, images = before_and_after(source, destination, series_uid=options.series_uid, most=MOST_SLICES)
        told = (*(one.sentence for one in done.compared.unlike), done.compared.unmeasured)
        _write_report(report, source, "mr", denoiser, count, images, told)


def _write_report(
    path: Path,
    source: Path,
    domain: str,
    denoiser: Denoiser,
    count: int,
    images: Iterable[tuple[str, Any, Any]],
    told: Iterable[str],
) -> None:
    from iscl_monai.domain import domain_named
    from iscl_monai.report.plain import write_plain_report
    from iscl_monai.report.write import made_by

    sentences = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in told if sentence)
    write_plain_report(
        path,
        name=source.name,
        domain=domain_named(domain),
        images=images,
        count=count,
        made_with=made_by(denoiser),
        summary=f"Unlike what the model was trained on, or not known to be like it. {sentences}" if sentences else "",
    )


WORK: dict[str, Callable[[Path, Path, Other, Path | None], None]] = {"micrograph": _micrographs, "mr": _magnitude}


def _progress(unit: str) -> Any:
    from iscl_monai.cli.watching import counting

    return counting(unit)
