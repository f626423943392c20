"""``iscl-monai qa``: argument parsing and a progress bar; everything else is the package's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iscl_monai.cli.bundle import found_bundle
from iscl_monai.console import exit_codes, say

if TYPE_CHECKING:
    from iscl_monai.evaluation.qa import Limits, QaResult


def qa(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            metavar="BUNDLE",
            envvar="ISCL_MONAI_BUNDLE",
            help="Folder of the trained bundle.  [default: bundles/iscl]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where qa.json and qa.html go; a new folder.")] = Path("qa"),
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Test objects of `python -m data_prep phantom --kind physics`; else made once and kept."
        ),
    ] = None,
    limits: Annotated[Path | None, typer.Option(metavar="FILE", help="Limits to use instead of the proposed.")] = None,
    write_limits: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the proposed limits into FILE for editing, and end.")
    ] = None,
    doses: Annotated[
        str | None,
        typer.Option(metavar="SHARES", help="Of the full dose, such as 1,0.25.  [default: 1,0.5,0.25,0.1,0.05]"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller and fewer images, doses 1 and 0.25: for a first look.")
    ] = False,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE:FUNCTION", help="Instead of a bundle: a filter, an installed method, or a function."
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="ensemble, generator (F alone) or extractor (x - H(x) alone).")
    ] = "ensemble",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 unless every limit is passed.")] = False,
) -> None:
    """Measure a trained bundle on simulated test objects, and hold it against limits that you can edit.

    Noise and its texture, sharpness, Hounsfield units, detectability, small lesions, inventions, full-dose input and
    robustness, at 100, 50, 25, 10 and 5 % of the dose. Writes qa.json and qa.html. A failed limit is a finding, not a
    fault: the exit code stays 0, unless --strict is given; then what could not be measured is no pass, either.

    Examples:
        iscl-monai qa bundles/iscl --out runs/a/qa

        iscl-monai qa --write-limits my_limits.toml

        iscl-monai qa --method my_method.py:denoise --out qa_of_mine

        iscl-monai qa bundles/iscl --limits my_limits.toml --doses 1,0.25 --strict
    """
    with exit_codes():
        if write_limits is not None:
            from iscl_monai.evaluation.qa import write_limits as write

            say(f"written: {write(write_limits)}")
            return
        options = {"mode": mode, "device": device, "method": method or ""}
        failed = _checked(out, bundle, options, dataset, limits, _shares(doses), quick=quick)
    if strict and failed:
        raise typer.Exit(1)


def _checked(
    out: Path,
    bundle: Path | None,
    options: Mapping[str, str],
    dataset: Path | None,
    limits: Path | None,
    doses: tuple[float, ...] | None,
    *,
    quick: bool,
) -> bool:
    """Refuse what can be refused before the work; then measure, write and tell. Whether a limit did not pass."""
    from iscl_monai.durable import check_free
    from iscl_monai.errors import ConfigRefusal
    from iscl_monai.evaluation.qa import Limits
    from iscl_monai.evaluation.submission import named_denoiser
    from iscl_monai.inference import Denoiser, SliceDenoiser

    check_free(out)
    held_against = Limits.proposed() if limits is None else Limits.read(limits)
    denoiser: SliceDenoiser
    if options["method"]:
        if bundle is not None and os.environ.get("ISCL_MONAI_BUNDLE") != str(bundle):
            raise ConfigRefusal("--method with a bundle", allowed="one of the two", cure="leave one out")
        denoiser = named_denoiser(options["method"])
    else:
        denoiser = Denoiser.from_bundle(found_bundle(bundle), mode=options["mode"], device=options["device"])
    result = _run(denoiser, dataset, doses, held_against, quick=quick)
    _write(out, result)
    _print_result(out, result)
    return bool(result.failed or result.unmeasured)


def _shares(doses: str | None) -> tuple[float, ...] | None:
    """Shares of the full dose from their list; full dose is always measured."""
    from iscl_monai.errors import ConfigRefusal

    if doses is None:
        return None
    try:
        shares = {float(share) for share in doses.split(",")}
    except ValueError:
        shares = set()
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ConfigRefusal(
            f"--doses {doses}", allowed="shares of the full dose in (0, 1], such as 1,0.25", cure="10 % is 0.1"
        )
    return tuple(sorted({1.0, *shares}, reverse=True))


def _run(
    denoiser: Any, dataset: Path | None, doses: tuple[float, ...] | None, limits: Limits, *, quick: bool
) -> QaResult:
    """Make or find the test objects, and measure, with a bar."""
    from dataclasses import replace

    from iscl_monai.evaluation.qa import FULL, QUICK, cache_folder, make_phantom, run_qa
    from iscl_monai.evaluation.qa.phantom import read_phantom

    if dataset is None:
        size = QUICK if quick else FULL
        if doses is not None and not set(doses) <= set(size.doses):
            size = replace(size, doses=doses)
        dataset = cache_folder(size)
        say(f"test objects: {dataset}")
        make_phantom(dataset, size)
    phantom = read_phantom(dataset, doses)
    with _bar(phantom.realisations, len(phantom.doses)) as advance:
        return run_qa(denoiser, dataset, doses=doses, limits=limits, progress=advance)


class _bar:  # noqa: N801 - used as a function
    """Slices that are still to be denoised."""

    def __init__(self, realisations: int, doses: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from iscl_monai.evaluation.qa import slices_to_do

        self.bar = Progress(
            TextColumn("measuring"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("slices"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task("", total=slices_to_do(realisations, doses))

    def __enter__(self) -> Callable[[int], object]:
        self.bar.start()
        return lambda done: self.bar.advance(self.task, done)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


def _write(out: Path, result: QaResult) -> None:
    """Both files, whole or not at all."""
    import json

    from iscl_monai.durable import whole_folder
    from iscl_monai.evaluation.qa.page import write_qa_page
    from iscl_monai.report.write import provenance

    with whole_folder(out) as folder:
        (folder / "qa.json").write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
        write_qa_page(folder / "qa.html", result, made_with=provenance() | dict(result.denoiser))


def _print_result(out: Path, result: QaResult) -> None:
    for verdict in result.verdicts:
        if verdict.status in ("fail", "not measurable"):
            dose = "" if verdict.dose is None else f" at {100 * verdict.dose:g} % of the dose"
            value = "" if verdict.status == "not measurable" else f" {verdict.value:.3g}, allowed {verdict.allowed}"
            say(f"{verdict.status}: {verdict.quantity}{dose}:{value or ' -'} ({verdict.limit})")
    judged = [verdict for verdict in result.verdicts if verdict.status != "not judged"]
    passed = sum(verdict.status == "pass" for verdict in judged)
    unknown = len(result.unmeasured)
    say(f"{passed} of {len(judged)} limits passed, {len(result.failed)} failed, {unknown} not measurable")
    say(f"written: {out / 'qa.json'}, {out / 'qa.html'}")
