"""``iscl-monai qa``: argument parsing and a progress bar; everything else is the package's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iscl_monai.cli.bundle import found_bundle
from iscl_monai.cli.watching import work_bar
from iscl_monai.console import exit_codes, say
from iscl_monai.spoken import tell_program

if TYPE_CHECKING:
    from iscl_monai.evaluation.qa import Plan, QaResult


def qa(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            metavar="BUNDLE",
            envvar="ISCL_MONAI_BUNDLE",
            help="Folder of a bundle, or of a training.  [default: bundles/iscl, or the installed one]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where qa.json and qa.html go; a new folder.")] = Path("qa"),
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Test objects of `python -m data_prep phantom --kind physics`; else made for this run."
        ),
    ] = None,
    limits: Annotated[Path | None, typer.Option(metavar="FILE", help="Limits to use instead of the proposed.")] = None,
    write_limits: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the proposed limits into FILE for editing, and end.")
    ] = None,
    doses: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Of the full dose, such as 1,0.25.  [default: 1,0.5,0.25,0.1,0.05 and one drawn]",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller and fewer images, doses 1, 0.25 and one drawn: for a first look.")
    ] = False,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE:FUNCTION", help="Instead of a bundle: a filter, an installed method, or a function."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Of the phantom; 0 is the fixed one, kept for comparisons.  [default: drawn]"
        ),
    ] = None,
    beside: Annotated[
        str, typer.Option(metavar="NAMES", help="Classical filters to measure on the same phantom, or none.")
    ] = "nlm,tv",
    mode: Annotated[
        str, typer.Option(help="ensemble, generator (F alone) or extractor (x - H(x) alone).")
    ] = "ensemble",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    target_noise: Annotated[
        float | None,
        typer.Option(
            metavar="HU",
            min=0,
            help="Noise that the bundle is to leave; 0: judge all it can take.  [default: its weights' clean scans']",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 on a fault, or where something could not be measured.")
    ] = False,
    wishes: Annotated[bool, typer.Option("--wishes", help="With --strict: a missed wish counts, too.")] = False,
) -> None:
    """Measure a trained bundle on simulated test objects, and hold it against limits that you can edit.

    Noise and its texture, sharpness of rods and of borders in anatomy, Hounsfield units of each tissue, detectability,
    small lesions, calcifications, inventions, patterns, steps from slice to slice, full-dose input and robustness, at
    100, 50, 25, 10 and 5 % of the dose and one between them. Every run draws a phantom of its own. Writes qa.json and
    qa.html; killed, the same command goes on where it was. A missed limit is a finding, not an error of the program:
    the exit code stays 0, unless --strict is given.

    Examples:
        iscl-monai qa bundles/iscl --out runs/a/qa

        iscl-monai qa --write-limits my_limits.toml

        iscl-monai qa --method my_method.py:denoise --out qa_of_mine

        iscl-monai qa bundles/iscl --limits my_limits.toml --doses 1,0.25 --seed 7 --strict
    """
    with exit_codes():
        if write_limits is not None:
            from iscl_monai.evaluation.qa import write_limits as write

            say(f"written: {write(write_limits)}")
            return
        result = _checked(
            out,
            bundle,
            method,
            {"mode": mode, "device": device, "target_noise_hu": target_noise},
            _plan(dataset, seed, _shares(doses), limits, beside, quick=quick),
        )
    if strict and (result.faults or result.unmeasured or (wishes and result.missed_wishes)):
        raise typer.Exit(1)


def _plan(
    dataset: Path | None,
    seed: int | None,
    doses: tuple[float, ...] | None,
    limits: Path | None,
    beside: str,
    *,
    quick: bool,
) -> Plan:
    """Refuse what can be refused before the work."""
    from iscl_monai.errors import ConfigRefusal
    from iscl_monai.evaluation.qa import FULL, QUICK, Limits, Plan
    from iscl_monai.evaluation.qa.beside import chosen

    if dataset is not None and seed is not None:
        raise ConfigRefusal(
            f"--seed {seed} with --dataset {dataset}", allowed="one of them", cure="a data set has its own seed"
        )
    return Plan(
        size=QUICK if quick else FULL,
        dataset=dataset,
        seed=seed,
        doses=doses,
        limits=Limits.proposed() if limits is None else Limits.read(limits),
        beside=chosen(beside),
    )


def _checked(out: Path, bundle: Path | None, method: str | None, options: Mapping[str, Any], plan: Plan) -> QaResult:
    from iscl_monai.durable import check_free
    from iscl_monai.errors import ConfigRefusal
    from iscl_monai.evaluation.qa import check
    from iscl_monai.evaluation.submission import named_denoiser
    from iscl_monai.inference import Denoiser, SliceDenoiser

    check_free(out)
    denoiser: SliceDenoiser
    if method:
        if bundle is not None and os.environ.get("ISCL_MONAI_BUNDLE") != str(bundle):
            raise ConfigRefusal("--method with a bundle", allowed="one of the two", cure="leave one out")
        if options["target_noise_hu"] is not None:
            raise ConfigRefusal(
                "--target-noise with --method", allowed="--target-noise with a bundle", cure="leave one out"
            )
        denoiser = named_denoiser(method)
    else:
        denoiser = Denoiser.from_bundle(found_bundle(bundle), **options)
    result = check(out, denoiser, plan, say=say, bar=work_bar)
    _print_result(out, result)
    return result


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


def _print_result(out: Path, result: QaResult) -> None:
    for verdict in result.verdicts:
        if verdict.status in ("fault", "wish missed", "not measurable"):
            dose = "" if verdict.dose is None else f" at {100 * verdict.dose:g} % of the dose"
            value = "" if verdict.status == "not measurable" else f" {verdict.value:.3g}, allowed {verdict.allowed}"
            say(f"{verdict.status}: {verdict.quantity}{dose}:{value or ' -'} ({verdict.limit})")
    for note in result.notes:
        say(f"note: {note}")
    judged = [verdict for verdict in result.verdicts if verdict.status != "not judged"]
    passed = sum(verdict.status == "pass" for verdict in judged)
    say(
        f"{passed} of {len(judged)} limits passed, {len(result.faults)} faults, {len(result.missed_wishes)} wishes "
        f"missed, {len(result.unmeasured)} not measurable"
    )
    tell_program(
        judged=len(judged),
        passed=passed,
        verdicts=result.to_json()["verdicts"],
        written=[str(out / name) for name in ("qa.json", "qa.html")],
    )
    say(f"written: {out / 'qa.json'}, {out / 'qa.html'}")
