"""``iscl-monai folds``: argument parsing and a table; everything else is the package's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from iscl_monai.console import exit_codes, say
from iscl_monai.errors import ConfigRefusal
from iscl_monai.spoken import tell_program


def folds(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of folds (fold1, fold2 ...), or of one datalist.")
    ],
    modality: Annotated[str, typer.Option(metavar="micrograph|mr", help="What the images are; never guessed.")],
    methods: Annotated[
        str, typer.Option(metavar="NAMES", help="Filters: flatten, level, row-median, gaussian, nlm, bm3d; or none.")
    ] = "flatten,level,row-median,gaussian,nlm,bm3d",
    bundle: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="A trained bundle; {fold} in DIR is the name of each fold's folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write every number as JSON.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure filters and trained bundles on the test of every fold, whole images, by the domain's protocol.

    The strength of each filter is chosen on the fold's validation. A bundle must have been trained on the fold that it
    is measured on.

    Example:
        iscl-monai folds data/ --modality micrograph --bundle 'iscl=runs/{fold}' --out film.json
    """
    with exit_codes():
        from iscl_monai.cli.watching import counting
        from iscl_monai.domain import domain_named
        from iscl_monai.durable import check_free, whole_file
        from iscl_monai.evaluation.folds import leak_of, score_folds, to_json, to_markdown

        domain = domain_named(modality)
        if domain.phantom:
            raise ConfigRefusal(f"--modality {modality}", allowed="micrograph, mr", cure="use iscl-monai benchmark")
        if out is not None:
            check_free(out)
        folders = _folders(data)
        if leak := leak_of(folders, domain):
            say(f"warning: {leak}")
        yardsticks, bundles = [] if methods == "none" else methods.split(","), dict(map(_named, bundle or ()))
        with counting("methods", "measuring") as progress:
            progress.begins(len(folders) * (len(yardsticks) + len(bundles)))
            scores = score_folds(
                folders,
                domain=domain,
                yardsticks=yardsticks,
                bundles=bundles,
                device=device,
                progress=progress,
            )
        content = to_json(scores, domain, leak)
        if out is not None:
            with whole_file(out) as file:
                file.write((json.dumps(content, indent=2) + "\n").encode())
        tell_program(**content)
        typer.echo(to_markdown(scores, domain), nl=False)


def _folders(data: Path) -> list[Path]:
    """Folders with a datalist, in the order of their names."""
    if (data / "datalist.json").is_file():
        return [data]
    found = sorted(path.parent for path in data.glob("*/datalist.json"))
    if not found:
        raise ConfigRefusal(
            f"{data} without a datalist.json, in itself or in folders of it",
            allowed="what python -m data_prep split-stack made",
            cure="check the path",
        )
    return found


def _named(word: str) -> tuple[str, str]:
    name, sign, place = word.partition("=")
    if not (name and sign and place):
        raise ConfigRefusal(f"--bundle {word}", allowed="NAME=DIR", cure="give e.g. --bundle 'iscl=runs/{fold}'")
    return name, place
