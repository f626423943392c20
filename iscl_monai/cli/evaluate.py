"""``iscl-monai evaluate``: argument parsing, a progress bar and a table; everything else is the package's."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iscl_monai.cli.outcome import exit_codes, found_bundle, say
from iscl_monai.errors import ConfigRefusal

if TYPE_CHECKING:
    from iscl_monai.evaluation.scores import Scores
    from iscl_monai.inference.denoiser import Denoiser

BUNDLE = "ISCL_MONAI_BUNDLE"


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The command line."""

    first: Path
    second: Path | None
    noisy: Path | None
    protocol: str
    bundle: Path | None
    section: str
    device: str
    out: Path | None


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
        typer.Option(help=f"Trained bundle.  [env: {BUNDLE}; default: bundles/iscl]", show_default=False),
    ] = None,
    section: Annotated[
        str | None, typer.Option(show_default="test", help="Of the datalist: test or validation.")
    ] = None,
    no_reference: Annotated[
        bool, typer.Option("--no-reference", help="A real low-dose scan, of which there is no truth.")
    ] = False,
    device: Annotated[str | None, typer.Option(show_default="auto", help="auto, cpu or cuda.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to make, with metrics.json and report.html.")
    ] = None,
) -> None:
    """Measure denoised scans on a named protocol, the noisy input beside every number.

    A scan is a DICOM folder or file, or a NIfTI, MetaImage or NRRD volume. Pairs must be voxel by voxel at one place.
    Each number belongs to its protocol: window, data range, region and kernel. Numbers of two protocols, and numbers
    of papers, are not comparable. Slices are averaged to patients, patients to a cohort, with a bootstrap interval from
    three patients on. Weights that say they were trained on a patient are not scored on that patient.

    Without a reference: noise before and after for each tissue, its texture, HU shifts, what was removed, flicker
    between slices. That cannot tell whether a lesion was kept.

    Examples:
        iscl-monai evaluate denoised/ full_dose/ --noisy low_dose/ --out scores/

        iscl-monai evaluate D/datalist.json --bundle runs/a --protocol ldct-bench-abdomen --out scores/

        iscl-monai evaluate --no-reference low_dose/ denoised/ --out panel/
    """
    chosen = {"protocol": protocol or "hu-body", "section": section or "test", "device": device or "auto"}
    request = _Request(first=first, second=second, noisy=noisy, bundle=bundle, out=out, **chosen)
    with exit_codes():
        _check_used(protocol, section, device, pair=second is not None, no_reference=no_reference)
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


def _check_out(request: _Request) -> None:
    """Before minutes of work, not after."""
    if request.out is not None:
        from iscl_monai.durable import check_free

        check_free(request.out)


def _refuse(came: str, allowed: str, cure: str) -> None:
    raise ConfigRefusal(came, allowed=allowed, cure=cure)


def _pair(request: _Request) -> None:
    from iscl_monai.dicom.pixels import without_warnings
    from iscl_monai.evaluation.pairs import read_pair
    from iscl_monai.evaluation.scores import Scores
    from iscl_monai.quality.protocol import named_protocol

    scores = Scores(named_protocol(request.protocol))
    if request.bundle is not None:
        _refuse("--bundle with DENOISED and REFERENCE", "--bundle with a datalist, or with NOISY alone", "leave it out")
    with without_warnings():
        scores.add(read_pair(request.first, request.second or request.first, request.noisy))
    _tell_scores(request, scores)


def _datalist(request: _Request) -> None:
    from iscl_monai.data import Datalist
    from iscl_monai.dicom.pixels import without_warnings
    from iscl_monai.evaluation.pairs import denoised_pairs, pairs_in
    from iscl_monai.evaluation.scores import Scores
    from iscl_monai.evaluation.training_record import refuse_seen
    from iscl_monai.inference.denoiser import denoise_volume
    from iscl_monai.quality.protocol import named_protocol

    scores = Scores(named_protocol(request.protocol))
    if request.noisy is not None:
        _refuse("--noisy with a datalist", "--noisy with DENOISED and REFERENCE", "leave it out: the datalist has it")
    alone = request.first.is_file() and request.first.suffix.lower() != ".json"
    if alone or (request.first.is_dir() and not (request.first / "datalist.json").is_file()):
        _refuse(f"{request.first} alone, without a datalist.json", "DENOISED REFERENCE, or a datalist", "give both")
    datalist = Datalist.load(request.first)
    pairs = pairs_in(datalist, request.section)
    bundle = _bundle(request)
    checked = refuse_seen(bundle, [pair.patient for pair in pairs], split_protocol=datalist.split_protocol)
    denoiser = _denoiser(request, bundle)
    with without_warnings(), _progress(len(pairs)) as advance:
        for pair in denoised_pairs(pairs, lambda hu: denoise_volume(hu, denoiser)):
            scores.add(pair)
            advance()
    _tell_scores(request, scores, denoiser=denoiser, checked=checked)


def _bundle(request: _Request) -> Path:
    return found_bundle(request.bundle or (Path(os.environ[BUNDLE]) if os.environ.get(BUNDLE) else None))


def _denoiser(request: _Request, bundle: Path) -> Denoiser:
    from iscl_monai.inference.denoiser import Denoiser

    return Denoiser.from_bundle(bundle, device=request.device)


def _progress(total: int) -> Any:
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def bar() -> Any:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("scans"), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("", total=total)
            yield lambda: progress.advance(task)

    return bar()


def _made_with(denoiser: Denoiser | None) -> dict[str, str]:
    from iscl_monai.report.write import provenance

    if denoiser is None:
        return provenance()
    identity = denoiser.identity
    named = {"model": f"{identity.name} {identity.version}", "weights": f"sha256 {identity.weights_digest}"}
    return provenance() | named | denoiser.parameters


def _tell_scores(request: _Request, scores: Scores, *, denoiser: Denoiser | None = None, checked: str = "") -> None:
    from iscl_monai.evaluation.outcome import cohort_lines, cohort_title, write_scores

    if request.out is not None:
        write_scores(request.out, scores, made_with=_made_with(denoiser), checked=checked)
    heads, lines = cohort_lines(scores)
    _print_table(cohort_title(scores), heads, lines)
    parts = sorted({pair.body_part or "not said" for pair in scores.pairs})
    say(f"BodyPartExamined: {', '.join(parts)}")
    for notice in (*scores.notices(), checked):
        if notice:
            say(f"note: {notice}")
    _tell_place(request)


def _print_table(title: str, heads: list[str], lines: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    # A table that is cut to the width of a pipe would lose digits.
    console = Console() if os.isatty(1) else Console(width=120)
    table = Table(title=title, title_justify="left")
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left")
    for line in lines:
        table.add_row(*line)
    console.print(table)


def _tell_place(request: _Request) -> None:
    if request.out is not None:
        say(f"written: {request.out}/metrics.json, {request.out}/report.html")


def _without_reference(request: _Request) -> None:
    from iscl_monai.dicom.pixels import without_warnings
    from iscl_monai.evaluation import no_reference as panel_of
    from iscl_monai.evaluation.scans import check_same_place, read_scan
    from iscl_monai.inference.denoiser import denoise_volume

    if request.noisy is not None:
        _refuse("--noisy with --no-reference", "NOISY DENOISED, in this order", "give the noisy scan first")
    if request.second is not None and request.bundle is not None:
        _refuse("--bundle with NOISY and DENOISED", "one of --bundle and DENOISED", "leave one out")
    denoiser = None if request.second is not None else _denoiser(request, _bundle(request))
    with without_warnings():
        before = read_scan(request.first)
        if denoiser is None:
            after = read_scan(request.second or request.first)
            check_same_place(before, after)
        else:
            after = before.with_hu(denoise_volume(before.hu, denoiser))
        panel = panel_of.measured(before, after)
    if request.out is not None:
        _write_panel(request.out, request.first.name, panel_of, before, after, panel, denoiser)
    _tell_panel(panel_of, panel)
    say(f"BodyPartExamined: {before.body_part or 'not said'}")
    say(f"note: {panel_of.CANNOT_TELL}")
    _tell_place(request)


def _write_panel(
    out: Path, name: str, panel_of: Any, before: Any, after: Any, panel: Any, denoiser: Denoiser | None
) -> None:
    from iscl_monai.evaluation.outcome import write_outcome

    made_with = _made_with(denoiser)
    write_outcome(
        out,
        {**panel_of.panel_content(panel), "body_part": before.body_part, "made_with": made_with},
        title="Before and after, without a reference",
        cases=panel_of.panel_cases(name, before, after, panel),
        made_with=made_with,
        summary=f"{panel_of.CANNOT_TELL}.",
        sections=[panel_of.texture_section(panel.texture)],
    )


def _tell_panel(panel_of: Any, panel: Any) -> None:
    lines = [
        [
            row.name,
            "" if row.noisy is None else f"{row.noisy:.{row.digits}f}",
            "" if row.denoised is None else f"{row.denoised:.{row.digits}f}",
            row.unit,
            row.better,
        ]
        for row in panel_of.panel_rows(panel)
        if not math.isnan(row.denoised or 0)
    ]
    _print_table("No reference: before and after", ["Quantity", "Noisy input", "Denoised", "Unit", "Better"], lines)
