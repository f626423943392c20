"""``iscl-monai benchmark``: argument parsing only."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iscl_monai.cli.bundle import found_bundle
from iscl_monai.cli.watching import work_bar
from iscl_monai.console import exit_codes, say
from iscl_monai.errors import ConfigRefusal
from iscl_monai.extras import check_extra
from iscl_monai.spoken import tell_program

if TYPE_CHECKING:
    from iscl_monai.evaluation.benchmark.run import Request


def benchmark(
    dataset: Annotated[Path, typer.Option(help="datalist.json with test pairs, or its folder.")],
    out: Annotated[Path, typer.Option(help="Folder of everything that is made; goes on where it was.")],
    budget: Annotated[
        str | None,
        typer.Option(
            help="For each learned method: 500steps, or 20min (of ISCL on this machine). Needed if one is trained.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only this method (repeatable).", show_default=False)] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.py:FUNCTION|NAME=DIR",
            help="Yours: a function of HU, denoised scans of the section, or a trained bundle (repeatable).",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="One table for each.  [default: hu-body]")] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(help="Config after train.json, for all methods.  [default: small.json without a GPU]"),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Bundle setting for all methods; repeatable."),
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable.  [default: 0]")] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Try each learned method with 4 settings of its own, chosen on validation.")
    ] = False,
    section: Annotated[str, typer.Option(help="test or validation.")] = "test",
    bundle: Annotated[Path | None, typer.Option(help="Bundle whose configs train.", show_default=False)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    physics: Annotated[str, typer.Option(help="On phantoms: none, quick or full.")] = "quick",
    virtual_patients: Annotated[
        int, typer.Option(min=0, help="Score so many made-up patients, too, whose truth is known.")
    ] = 0,
    virtual_seed: Annotated[
        int | None, typer.Option(help="That draws them.  [default: another one for each OUT]", show_default=False)
    ] = None,
    dry: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would be trained and scored, and what refused; train and write nothing."
        ),
    ] = False,
) -> None:
    """Compare ISCL with classical filters, Noise2Void, CycleGAN, its ablations and supervised networks on your scans.

    Learned methods are trained on the same patches for the same number of steps, then all are scored on the test
    pairs, measured on phantoms, and timed. Supervised methods need a reference for every noisy scan (simulated dose has
    one). OUT gets report.html, tables.md and results.json. Each training and each method is told as it begins, with the
    time left once one is done. The same command continues an interrupted run; what has been trained is not trained
    again.

    Examples:
        iscl-monai benchmark --dataset D --out runs/benchmark --budget 20min --method iscl --method cyclegan --method tv

        iscl-monai benchmark --dataset D --out runs/mine --method nlm --method bm3d --add mine=my_method.py:denoise
    """
    with exit_codes("what was trained and measured is kept; the same command goes on"):
        check_extra("evaluate", "a benchmark")
        from iscl_monai.evaluation.benchmark.methods import chosen, submission, trainings
        from iscl_monai.evaluation.benchmark.physics import check_physics, physics_of
        from iscl_monai.evaluation.benchmark.run import Request
        from iscl_monai.evaluation.benchmark.run import benchmark as run
        from iscl_monai.quality.protocol import named_protocol

        methods = chosen(method, [submission(text) for text in add or ()])
        check_physics(physics)
        request = Request(
            datalist=dataset,
            out=out,
            budget=budget,
            methods=methods,
            seeds=seed or [0],
            protocols=[named_protocol(name) for name in protocol or ["hu-body"]],
            bundle=found_bundle(bundle) if trainings(methods) else bundle or Path(),  # else nobody asks
            configs=_configs(config),
            settings=dict(_setting(pair) for pair in setting or ()),
            section=section,
            device=device,
            physics=None if dry else physics_of(physics),
            virtual_patients=virtual_patients,
            virtual_seed=virtual_seed,
            sweep=sweep,
        )
        if dry:
            _dry_run(request, physics)
            return
        result = run(request, tell=say, bar=work_bar)
        written = [out / name for name in ("report.html", "tables.md", "results.json")]
        tell_program(rows=result.to_json()["rows"], written=[str(path) for path in written])
        say(f"{len(result.rows)} rows: {', '.join(map(str, written))}")


def _dry_run(request: Request, physics: str) -> None:
    from iscl_monai.evaluation.benchmark.dry_run import dry_run

    planned = dry_run(request, physics=physics)
    tell_program(
        would_train=[str(folder) for folder in planned.trainings],
        trained=[str(folder) for folder in planned.trained],
        steps=planned.steps,
        would_score=list(planned.rows),
        pairs=planned.pairs,
        patients=planned.patients,
    )
    for line in planned.lines():
        say(line)


def _configs(given: list[str] | None) -> list[str]:
    if given is not None:
        return given
    import torch

    return [] if torch.cuda.is_available() else ["small.json"]


def _setting(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise ConfigRefusal(f"--set {pair}", allowed="NAME=VALUE", cure="e.g. --set width=24")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
