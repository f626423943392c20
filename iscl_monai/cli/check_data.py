"""``iscl-monai check-data``: argument parsing only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iscl_monai.cli.bundle import found_bundle
from iscl_monai.console import cells, exit_codes, say, table_console
from iscl_monai.spoken import progress_disabled, tell_program

if TYPE_CHECKING:
    from iscl_monai.data.check import DataCheck


def check_data(
    dataset: Annotated[Path, typer.Argument(metavar="DATALIST", help="datalist.json, or its folder.")],
    patch_size: Annotated[int, typer.Option(help="Of the training, pixels.")] = 64,
    trust_hu: Annotated[bool, typer.Option("--trust-hu", help="NIfTI and MetaImage are Hounsfield units.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Scans read at the same time.")] = 2,
    try_steps: Annotated[
        bool, typer.Option("--try-steps", help="Train ten steps, to say how long a training takes here.")
    ] = False,
    config: Annotated[
        list[str] | None, typer.Option(help="With --try-steps: config after train.json, such as small.json.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="With --try-steps: bundle whose configs train.", show_default=False)
    ] = None,
) -> None:
    """Look through the scans of a training before it begins: everything is read, nothing is written.

    Says of each scan its size, kernel, reconstruction and noise; what the training would refuse (exit code 2); and what
    it would take, but may learn instead of noise: a kernel that only one pool has, pools as noisy as each other. A
    patient on two sides is refused at once, as in training.

    Examples:
        iscl-monai check-data D

        iscl-monai check-data D --try-steps --config small.json
    """
    with exit_codes():
        from iscl_monai.data import Datalist
        from iscl_monai.data.check import check_data as run
        from iscl_monai.data.check import scans_to_read

        datalist = Datalist.load(dataset)
        from tqdm import tqdm

        with tqdm(total=scans_to_read(datalist), unit=" scans", disable=progress_disabled()) as bar:
            found = run(datalist, patch_size=patch_size, trust_hu=trust_hu, workers=workers, progress=bar.update)
        tell_program(**found.to_json())
        _print(found)
        if try_steps and not found.problems:
            _print_time(dataset, found_bundle(bundle), config or [])
        if found.problems:
            raise typer.Exit(2)


def _print(found: DataCheck) -> None:
    from rich.table import Column, Table

    heads = ("scan", "patient", "slices", "pixels", "mm", "kernel", "iterative", "noise, HU")
    table = Table(*(Column(head, overflow="fold") for head in heads), box=None)
    for one in found.scans:
        if one.refused:
            table.add_row(*cells(one.name, one.patient, "", "", "", "refused, see below"), style="red")
            continue
        size, spacing = f"{one.rows}x{one.columns}", f"{one.spacing_mm:.2f}"
        noise = "-" if one.noise_hu != one.noise_hu else f"{one.noise_hu:.1f}"
        kernel, iterative = one.kernel or "-", one.reconstruction or "-"
        table.add_row(*cells(one.name, one.patient, str(one.slices), size, spacing, kernel, iterative, noise))
    table_console().print(table)
    for problem in found.problems:
        say(f"refused: {problem}")
    for doubt in found.doubts:
        say(f"look at: {doubt}")
    seconds = sum(one.seconds for one in found.scans)
    readable = sum(not one.refused for one in found.scans)
    say(f"{readable} of {len(found.scans)} scans can be read, in {seconds:.0f} s one after the other")


def _print_time(dataset: Path, bundle: Path, configs: list[str]) -> None:
    from iscl_monai.evaluation.benchmark.budget import seconds_per_step

    paths = [bundle / "configs" / name for name in ("train.json", *configs)]
    settings = {name: value for path in paths for name, value in json.loads(path.read_text()).items()}
    seconds = seconds_per_step([str(path) for path in paths], {"dataset_dir": str(dataset)})
    epochs, steps = int(settings["epochs"]), int(settings["steps_per_epoch"])
    hours = seconds * epochs * steps / 3600
    say(f"{seconds:.2f} s a step here: {epochs} epochs of {steps} steps take {hours:.1f} h, validation apart")
