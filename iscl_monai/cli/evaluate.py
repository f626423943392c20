"""``iscl-monai evaluate``: argument parsing, a progress bar and a table; the rest is :mod:`iscl_monai.evaluation`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iscl_monai.cli.bundle import found_bundle
from iscl_monai.console import cells, exit_codes, printable, say, table_console
from iscl_monai.errors import ConfigRefusal
from iscl_monai.spoken import progress_console, tell_program

if TYPE_CHECKING:
    from iscl_monai.evaluation.evaluate import Comparison, Evaluation

BUNDLE = "ISCL_MONAI_BUNDLE"


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The command line."""

    first: Path
    second: Path | None
    noisy: Path | None
    protocol: str
    bundle: Path | None
    denoised: Path | None
    method: str | None
    section: str
    device: str
    target_noise: float | None
    out: Path | None
    trust_hu: bool


def evaluate(
    first: Annotated[
        Path,
        typer.Argument(
            metavar="DENOISED|DATALIST|NOISY",
            help="A denoised scan; or a datalist.json, or its folder; with --no-reference the noisy scan.",
        ),
    ],
    second: Annotated[
        Path | None,
        typer.Argument(metavar="[REFERENCE|DENOISED]", help="The reference; with --no-reference the denoised scan."),
    ] = None,
    noisy: Annotated[
        Path | None, typer.Option(metavar="NOISY", help="What was denoised, to be measured beside DENOISED.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            show_default="hu-body",
            help="hu-body, hu-frame, ldct-bench-chest, ldct-bench-abdomen, ldct-bench-neuro, iscl-8bit.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help=f"A bundle, or a training's folder.  [env: {BUNDLE}; default: bundles/iscl, or the installed one]",
            show_default=False,
        ),
    ] = None,
    denoised: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of a datalist: denoised scans, one for each pair; any method's."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE:FUNCTION", help="Of a datalist: a filter, an installed method, or a function."),
    ] = None,
    section: Annotated[
        str | None, typer.Option(show_default="test", help="Of the datalist: test or validation.")
    ] = None,
    no_reference: Annotated[
        bool, typer.Option("--no-reference", help="A real low-dose scan, of which there is no truth.")
    ] = False,
    trust_hu: Annotated[
        bool,
        typer.Option(
            "--trust-hu", help="Volume files: the values are HU though no air is seen, e.g. in crops within the body."
        ),
    ] = False,
    device: Annotated[str | None, typer.Option(show_default="auto", help="auto, cpu or cuda.")] = None,
    target_noise: Annotated[
        float | None,
        typer.Option(
            metavar="HU",
            min=0,
            help="Noise that a bundle is to leave; 0: none.  [default: its weights' clean scans']",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to make, with metrics.json and report.html.")
    ] = None,
) -> None:
    """Measure denoised scans on a named protocol, the noisy input beside every number.

    A scan is a DICOM folder or file, or a NIfTI, MetaImage or NRRD volume. Pairs must be voxel by voxel at one place.
    Each number belongs to its protocol: window, data range, region and kernel. Numbers of two protocols, and numbers
    of papers, are not comparable. Slices are averaged to patients, patients to a cohort, with a 95 % t interval from
    three patients on. Weights that say they were trained on a patient are not scored on that patient.

    Without a reference: noise before and after for each tissue, its texture, HU shifts, what was removed, flicker
    between slices. That cannot tell whether a lesion was kept.

    Examples:
        iscl-monai evaluate denoised/ full_dose/ --noisy low_dose/ --out scores/

        iscl-monai evaluate D/datalist.json --bundle runs/a --protocol ldct-bench-abdomen --out scores/

        iscl-monai evaluate D/datalist.json --denoised theirs/ --out scores_of_theirs/

        iscl-monai evaluate --no-reference low_dose/ denoised/ --out panel/
    """
    chosen: dict[str, Any] = {
        "protocol": protocol or "hu-body",
        "section": section or "test",
        "device": device or "auto",
    }
    made_by: dict[str, Any] = {"bundle": bundle, "denoised": denoised, "method": method, "target_noise": target_noise}
    request = _Request(first=first, second=second, noisy=noisy, out=out, trust_hu=trust_hu, **made_by, **chosen)
    with exit_codes():
        _check_used(protocol, section, device, pair=second is not None, no_reference=no_reference)
        _check_datalist_options(request, pair=second is not None, no_reference=no_reference)
        _check_out(request)
        if no_reference:
            _without_reference(request)
        elif second is None:
            _datalist(request)
        else:
            _pair(request)


def _check_used(
    protocol: str | None, section: str | None, device: str | None, *, pair: bool, no_reference: bool
) -> None:
    """An option that would change nothing was meant to."""
    if protocol is not None and no_reference:
        _refuse("--protocol with --no-reference", "--protocol where there is a reference", "leave it out")
    if section is not None and (pair or no_reference):
        _refuse("--section without a datalist", "--section with a datalist", "leave it out")
    if device is not None and pair:
        _refuse("--device with two scans", "--device where a bundle denoises", "leave it out")


def _check_datalist_options(request: _Request, *, pair: bool, no_reference: bool) -> None:
    """Methods of others are looked up by the pairs of a datalist."""
    for name, value in (("--denoised", request.denoised), ("--method", request.method)):
        if value is not None and (pair or no_reference):
            _refuse(f"{name} without a datalist", f"{name} with a datalist", "leave it out")
        if value is not None and request.bundle is not None:
            _refuse(f"{name} with --bundle", "one of --bundle, --denoised and --method", "leave one out")
    if request.target_noise is not None and (pair or request.denoised is not None or request.method is not None):
        _refuse("--target-noise without a bundle that denoises", "--target-noise with a bundle", "leave it out")
    if request.denoised is not None and request.method is not None:
        _refuse("--denoised with --method", "one of --bundle, --denoised and --method", "leave one out")


def _check_out(request: _Request) -> None:
    """Before minutes of work, not after."""
    if request.out is not None:
        from iscl_monai.durable import check_free

        check_free(request.out)


def _refuse(came: str, allowed: str, cure: str) -> None:
    raise ConfigRefusal(came, allowed=allowed, cure=cure)


def _pair(request: _Request) -> None:
    from iscl_monai.evaluation.evaluate import evaluate_pair

    if request.bundle is not None:
        _refuse("--bundle with DENOISED and REFERENCE", "--bundle with a datalist, or with NOISY alone", "leave it out")
    reference = request.second or request.first
    with _sign_of_life():
        evaluation = evaluate_pair(
            request.first, reference, noisy=request.noisy, protocol=request.protocol, trust_hu=request.trust_hu
        )
    _print_evaluation(request, evaluation)


def _datalist(request: _Request) -> None:
    from iscl_monai.evaluation.evaluate import evaluate_datalist

    if request.noisy is not None:
        _refuse("--noisy with a datalist", "--noisy with DENOISED and REFERENCE", "leave it out: the datalist has it")
    alone = request.first.is_file() and request.first.suffix.lower() != ".json"
    if alone or (request.first.is_dir() and not (request.first / "datalist.json").is_file()):
        _refuse(f"{request.first} alone, without a datalist.json", "DENOISED REFERENCE, or a datalist", "give both")
    with _progress_bar() as progress:
        evaluation = evaluate_datalist(
            request.first,
            bundle=None if request.denoised or request.method else _bundle(request),
            denoised=request.denoised,
            method=request.method,
            protocol=request.protocol,
            section=request.section,
            device=request.device,
            target_noise_hu=request.target_noise,
            trust_hu=request.trust_hu,
            progress=progress,
        )
    _print_evaluation(request, evaluation)


def _without_reference(request: _Request) -> None:
    from iscl_monai.evaluation.evaluate import evaluate_without_reference

    if request.noisy is not None:
        _refuse("--noisy with --no-reference", "NOISY DENOISED, in this order", "give the noisy scan first")
    if request.second is not None and request.bundle is not None:
        _refuse("--bundle with NOISY and DENOISED", "one of --bundle and DENOISED", "leave one out")
    bundle = _bundle(request) if request.second is None else None
    with _sign_of_life():
        comparison = evaluate_without_reference(
            request.first,
            request.second,
            bundle=bundle,
            device=request.device,
            target_noise_hu=None if bundle is None else request.target_noise,
            trust_hu=request.trust_hu,
        )
    _print_comparison(request, comparison)


def _bundle(request: _Request) -> Path:
    return found_bundle(request.bundle or (Path(os.environ[BUNDLE]) if os.environ.get(BUNDLE) else None))


def _sign_of_life() -> AbstractContextManager[object]:
    """What moves on a terminal while one scan is read and measured: minutes, with no parts to count."""
    return progress_console().status("reading and measuring")


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar that appears with the first pair: what is refused before is one line."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("scans"), TimeRemainingColumn())
    bar = Progress(*columns, console=progress_console())

    def show(done: int, total: int) -> None:
        if not bar.tasks:
            bar.start()
            bar.add_task("", total=total)
        bar.update(bar.tasks[0].id, completed=done)

    try:
        yield show
    finally:
        bar.stop()


def _print_evaluation(request: _Request, evaluation: Evaluation) -> None:
    from iscl_monai.evaluation.outcome import cohort_lines, cohort_title

    if request.out is not None:
        evaluation.write(request.out)
    tell_program(**evaluation.scores.content())
    for scores in (evaluation.scores, *evaluation.against_truth):
        heads, lines = cohort_lines(scores)
        _print_table(cohort_title(scores), heads, lines)
    say(f"BodyPartExamined: {', '.join(sorted(part or 'not said' for part in evaluation.body_parts))}")
    for notice in evaluation.notices:
        say(f"note: {notice}")
    _print_place(request)


def _print_comparison(request: _Request, comparison: Comparison) -> None:
    from iscl_monai.evaluation.no_reference import CANNOT_TELL, panel_content, panel_rows

    if request.out is not None:
        comparison.write(request.out)
    tell_program(**panel_content(comparison.panel))
    lines = [
        [
            row.name,
            "" if row.noisy is None else f"{row.noisy:.{row.digits}f}",
            "" if row.denoised is None else f"{row.denoised:.{row.digits}f}",
            row.unit,
            row.better,
        ]
        for row in panel_rows(comparison.panel)
        if not math.isnan(row.denoised or 0)
    ]
    _print_table("No reference: before and after", ["Quantity", "Noisy input", "Denoised", "Unit", "Better"], lines)
    say(f"BodyPartExamined: {comparison.body_part or 'not said'}")
    say(f"note: {CANNOT_TELL}")
    _print_place(request)


def _print_table(title: str, heads: list[str], lines: list[list[str]]) -> None:
    from rich.table import Table

    table = Table(title=printable(title), title_justify="left")
    for place, head in enumerate(heads):
        table.add_column(printable(head), justify="right" if place else "left", overflow="fold")
    for line in lines:
        table.add_row(*cells(*line))
    table_console().print(table)


def _print_place(request: _Request) -> None:
    if request.out is not None:
        say(f"written: {request.out}/metrics.json, {request.out}/report.html")
