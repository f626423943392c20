"""``python -m data_prep split-stack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iscl_monai.extras import check_extra
from iscl_monai.spoken import tell_program


def split_stack(
    clean: Annotated[Path, typer.Argument(metavar="CLEAN", help="Micrographs: a folder, or a stack.")],
    noisy: Annotated[Path, typer.Argument(metavar="NOISY", help="The same sections, degraded.")],
    destination: Annotated[Path, typer.Argument(metavar="DATA", help="Folder to make, a datalist per fold in it.")],
    gap_nm: Annotated[float, typer.Option(metavar="NM", help="Least distance of two blocks; 480 for fly brain.")],
    blocks: Annotated[int, typer.Option(help="Blocks along z, and folds.")] = 4,
    number_nm: Annotated[
        float | None, typer.Option(metavar="NM", help="Distance of sections whose numbers differ by 1.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(metavar="blocks|permuted", help="Neighbours together, or in random order: that leaks.")
    ] = "blocks",
    seed: Annotated[int, typer.Option(help="Of permuted: another seed gives another order.")] = 0,
    specimen: Annotated[str, typer.Option(metavar="NAME", help="Of the specimen.  [default: CLEAN's name]")] = "",
    allow_holes: Annotated[bool, typer.Option("--allow-holes", help="Numbers of the files may be missing.")] = False,
) -> None:
    """Divide one stack of micrographs along z for cross-validation: a datalist per fold.

    Neighbouring sections show the same cells, so sections of two roles stay apart by the gap; those within it are left
    out. Every block is the test of one fold; the others are the clean pool, the noisy pool, and validation. How alike
    the sections on both sides of a gap still are is measured and printed.

    The permuted protocol is that of the method's authors, for comparison with their figures alone: it trains on
    neighbours of what it is tested on.

    Example, every 8th section of 10 nm:

        python -m data_prep split-stack clean/ film/ data/ --blocks 4 --gap-nm 480 --number-nm 10
    """
    check_extra("micrograph", "micrographs")
    from data_prep.split.sections import split_stack as split

    done = split(
        clean,
        noisy,
        destination,
        blocks=blocks,
        gap_nm=gap_nm,
        number_nm=number_nm,
        protocol=protocol,
        seed=seed,
        specimen=specimen,
        allow_holes=allow_holes,
    )
    tell_program(
        written=[str(done.path)],
        blocks=[len(block) for block in done.blocks],
        left_out=done.left_out,
        distance_nm=done.distance_nm,
        correlation=done.correlation,
        leak=done.leak,
    )
    for index, block in enumerate(done.blocks, 1):
        typer.echo(f"block {index}: {len(block)} sections, {block[0]} to {block[-1]}", err=True)
    typer.echo(
        f"{done.left_out} sections left out; nearest of two roles {done.distance_nm:g} nm apart, "
        f"correlation {done.correlation:.2f}",
        err=True,
    )
    if done.leak:
        typer.echo(f"WARNING: {done.leak}", err=True)
    typer.echo(done.path)
