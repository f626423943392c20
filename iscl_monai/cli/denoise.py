"""``iscl-monai denoise``: argument parsing and a progress bar; everything else is the package's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iscl_monai.cli.bundle import BundleOption, KeepPrivateOption, found_bundle
from iscl_monai.cli.other_domains import Other, denoise_other, refuse_micrograph_options
from iscl_monai.console import DISCLAIMER, IN_PART, exit_codes, say
from iscl_monai.report.numbers import counted
from iscl_monai.spoken import tell_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iscl_monai.errors import Refusal
    from iscl_monai.inference.series import Outcome


def denoise(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A DICOM folder with any mixture, a DICOM or NIfTI file.")
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="OUT", help="What to make: a folder for a folder, a file for a file.")
    ],
    strength: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the change to apply; 0 gives the input back.")
    ] = 1.0,
    target_noise: Annotated[
        float | None,
        typer.Option(
            metavar="HU",
            min=0,
            help="Noise to leave, so that images do not look plastic; less costs edges and faint lesions, 0 most. "
            "[default: the weights' clean scans']",
            show_default=False,
        ),
    ] = None,
    target_dose: Annotated[
        float | None,
        typer.Option(
            metavar="TIMES",
            help="Leave the noise of so many times the scan's dose instead: 4 leaves half of it.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="ensemble, generator (F alone) or extractor (x - H(x) alone).")
    ] = "ensemble",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    runtime: Annotated[
        str,
        typer.Option(
            envvar="ISCL_MONAI_RUNTIME",
            help="torch, openvino (faster on CPUs for a hundred slices and more; extra 'fast') or auto: openvino where"
            " it can be used.",
        ),
    ] = "torch",
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 within the network, for GPUs: differs by 1 to 2 HU at most.")
    ] = "float32",
    bundle: BundleOption = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="WHICH",
            help="trained, ensemble or student: yours, or the released ones, large or fast."
            "  [default: trained if there are any, else ensemble]",
            show_default=False,
        ),
    ] = None,
    series: Annotated[str | None, typer.Option(metavar="UID", help="Only this SeriesInstanceUID.")] = None,
    save_residual: Annotated[bool, typer.Option("--save-residual", help="Also write what was removed.")] = False,
    trust_hu: Annotated[
        bool,
        typer.Option(
            "--trust-hu", help="NIfTI: the values are HU though no air is seen, e.g. in a crop within the body."
        ),
    ] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Also write report.html: before, after, removed, noise and means; the numbers in report.json.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing when one series is refused; else the others are denoised.")
    ] = False,
    keep_private: KeepPrivateOption = None,
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Work in seamless tiles, for slices that exceed the memory; 528 or more with the released weights.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Slices worked on at the same time.  [default: the CPU cores]", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be denoised, skipped and refused; write nothing.")
    ] = False,
    modality: Annotated[
        str,
        typer.Option(
            metavar="ct|micrograph|mr",
            help="What IN is; never guessed. Micrographs: TIFF, PNG, MRC; MR: magnitude, NIfTI or one DICOM series.",
        ),
    ] = "ct",
    grey_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Micrographs: stored numbers of black and white, if not 8 bits."),
    ] = None,
    allow_holes: Annotated[
        bool, typer.Option("--allow-holes", help="Micrographs: numbers of the files may be missing.")
    ] = False,
) -> None:
    """Denoise every original axial CT series of IN into OUT.

    Each slice becomes a derived DICOM image of the same study, patient and place, in a new series, labelled as
    AI-processed; scouts, reports and other files are listed and left alone. What would have to be guessed is refused;
    a series that is refused does not hold up the others, and the exit code is then 3. OUT appears only when every file
    in it has been written, flushed and read back.

    Examples:
        iscl-monai denoise scans/ denoised/

        iscl-monai denoise scans/ denoised/ --report --save-residual --strength 0.7

        iscl-monai denoise chest.nii.gz chest_denoised.nii.gz --bundle /models/chest

        iscl-monai denoise sections/ denoised/ --modality micrograph --bundle /models/film
    """
    with exit_codes():
        if modality != "ct":
            ct_alone = {
                "--target-noise": target_noise is not None,
                "--target-dose": target_dose is not None,
                "--save-residual": save_residual,
                "--trust-hu": trust_hu,
                "--strict": strict,
                "--keep-private": bool(keep_private),
                "--dry-run": dry_run,
                "--precision": precision != "float32",
                "--workers": workers is not None,
            }
            denoise_other(
                modality,
                source,
                destination,
                Other(bundle, weights, mode, strength, device, runtime, tile, series, grey_range, allow_holes, report),
                refused=[name for name, given in ct_alone.items() if given],
            )
            return
        refuse_micrograph_options(modality, grey_range, allow_holes=allow_holes)
        if dry_run:
            _check_targets(target_noise, target_dose)
            _show_plan(source, destination, series, strict=strict, trust_hu=trust_hu)
            return
        bundle = _checked(source, destination, bundle, weights, trust_hu=trust_hu)
        from iscl_monai.cli.watching import Watching
        from iscl_monai.inference.anything import denoise as run
        from iscl_monai.inference.familiarity import TrainingRecord
        from iscl_monai.inference.late import LateDenoiser

        denoiser = LateDenoiser(  # torch takes seconds to import, and what is wrong with IN is refused before
            lambda: _denoiser(
                bundle,
                device=device,
                mode=mode,
                strength=strength,
                tile_px=tile,
                weights=weights,
                target_noise_hu=target_noise,
                target_dose=target_dose,
                runtime=runtime,
                precision=precision,
            )
        )
        with Watching(denoiser if report else None) as watcher:
            outcome = run(
                source,
                destination,
                denoiser=denoiser,
                series_uid=series,
                save_residual=save_residual,
                trust_hu=trust_hu,
                strict=strict,
                keep_private=keep_private or (),
                workers=workers,
                processes=None if workers is None else 0,
                watcher=watcher,
                training=TrainingRecord.of_bundle(bundle, weights),
            )
        _print_outcome(outcome)
        for title, sentence in outcome.unlike:
            say(f"warning: {title}: {sentence}")
        for title, sentence in (*outcome.unmeasured, *outcome.notes):
            say(f"note: {title}: {sentence}")
        _end_in_part(outcome.refused)


def _check_targets(noise_hu: float | None, dose: float | None) -> None:
    from iscl_monai.inference.slice_denoiser import check_targets

    check_targets(noise_hu, dose)


def _checked(source: Path, destination: Path, bundle: Path | None, weights: str | None, *, trust_hu: bool) -> Path:
    """The bundle to work with, when nothing can be said against it and the places by their names alone."""
    from iscl_monai.durable import check_free
    from iscl_monai.inference.places import check_places, check_source
    from iscl_monai.released import weights_in

    bundle = found_bundle(bundle)
    weights_in(bundle, weights)
    check_source(source)
    if trust_hu:
        from iscl_monai.inference.anything import check_trust

        check_trust(source, trust_hu=trust_hu)
    check_places(source, destination)
    if source.is_dir():
        check_free(destination)
    return bundle


def _denoiser(bundle: Path, **options: Any) -> Any:
    from iscl_monai.inference import Denoiser

    denoiser = Denoiser.from_bundle(bundle, **options)
    if denoiser.passed_over:
        say(f"warning: {denoiser.passed_over}")
    if denoiser.device.type == "cpu":
        return denoiser
    from iscl_monai.inference.batching import GPU_BATCH, batched

    return batched(denoiser, size=GPU_BATCH, report=lambda sentence: say(f"note: {sentence}"))


def _show_plan(source: Path, destination: Path, series_uid: str | None, *, strict: bool, trust_hu: bool) -> None:
    from iscl_monai.dicom.nifti import NiftiVolume
    from iscl_monai.dicom.pixels import without_warnings
    from iscl_monai.durable import check_free
    from iscl_monai.inference.anything import check_trust
    from iscl_monai.inference.denoised_before import check_not_denoised
    from iscl_monai.inference.image import is_nifti
    from iscl_monai.inference.places import check_places
    from iscl_monai.inference.plan import plan

    check_trust(source, trust_hu=trust_hu)
    check_places(source, destination)
    check_free(destination)
    if is_nifti(source) and source.is_file():
        volume = NiftiVolume(source, trust_hu=trust_hu)
        check_not_denoised(source, volume.description)
        say(f"would denoise: {source.name}, {counted(volume.count, 'slice')}")
        return
    with without_warnings():
        decided = plan(source, series_uid=series_uid, strict=False)
    tell_program(
        would_denoise=[{"series": one.title, "slices": one.count} for one in decided.series],
        **_left_alone(decided.skipped, decided.refused),
    )
    for one in decided.series:
        place = f", in {one.place.relative_to(source)}" if len(decided.series) > 1 else ""
        say(f"would denoise: {one.title}, {counted(one.count, 'slice')}{place}")
    _print_left_alone(decided.skipped, decided.refused)
    if decided.refused and strict:
        raise decided.refused[0]
    _end_in_part(decided.refused)


def _print_outcome(outcome: Outcome) -> None:
    tell_program(
        written=str(outcome.destination),
        denoised=[{"series": title, "slices": count} for title, count in outcome.series],
        **_left_alone(outcome.skipped, outcome.refused),
    )
    for title, count in outcome.series:
        say(f"denoised: {title}, {counted(count, 'slice')}")
    _print_left_alone(outcome.skipped, outcome.refused)
    say(f"written: {outcome.destination} ({DISCLAIMER})")


def _end_in_part(refused: Sequence[Refusal]) -> None:
    """Tell by the exit code that not everything was denoised."""
    if refused:
        raise typer.Exit(IN_PART)


def _left_alone(skipped: Any, refused: Any) -> dict[str, Any]:
    return {
        "skipped": [{"path": str(one.path), "reason": one.reason} for one in skipped],
        "refused": [{"came": one.came, "allowed": one.allowed, "cure": one.cure} for one in refused],
    }


def _print_left_alone(skipped: Any, refused: Any) -> None:
    for one in skipped:
        say(f"skipped: {one.path}: {one.reason}")
    for refusal in refused:
        say(f"refused: {refusal}")
