"""``python -m data_prep degrade``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_prep.commands.progress import progress_bar
from iscl_monai.errors import ConfigRefusal
from iscl_monai.extras import check_extra
from iscl_monai.spoken import tell_program

KINDS = ("film", "charge", "rician")


def degrade(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Micrographs (TIFF, PNG, MRC, a folder), or MR magnitude (NIfTI).")
    ],
    destination: Annotated[Path, typer.Argument(metavar="OUT", help="File or folder to make, of the same kind.")],
    kind: Annotated[str, typer.Option(metavar="|".join(KINDS), help="Film and charge: micrographs; rician: MR.")],
    seed: Annotated[int, typer.Option(help="Another seed gives other noise.")] = 0,
    role: Annotated[str, typer.Option(metavar="NAME", help="Other noise for each use of an image: noisy, test.")] = "",
    sigma: Annotated[
        float | None,
        typer.Option(help="Of rician: noise over the scan's 99.5th percentile.  [default: 0.05]", show_default=False),
    ] = None,
    grey_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Of film and charge: grey levels of black and white, if not 8 bits."),
    ] = None,
) -> None:
    """Put known noise on clean images: film or charge on micrographs, Rician noise on MR magnitude.

    Each section or slice has random numbers of its own, by seed, role and its number: the same arguments give the same
    bytes, whatever else lies in the folder. OUT.json tells the parameters, the digests of the sources, and the PSNR
    of each image. Clean images must be as clean as can be had: their own noise stays in the result.

    Examples:
        python -m data_prep degrade clean/ film/ --kind film --seed 1

        python -m data_prep degrade clean.tif charged.tif --kind charge

        python -m data_prep degrade t1w.nii.gz noisy.nii.gz --kind rician --sigma 0.05
    """
    if kind not in KINDS:
        raise ConfigRefusal(f"--kind {kind}", allowed=", ".join(KINDS), cure="give one of them")
    if kind == "rician":
        if grey_range is not None:
            raise ConfigRefusal("--grey-range with rician", allowed="it with film and charge", cure="leave it out")
        from data_prep.degrade.volume import SIGMA, degrade_volume

        with progress_bar("slices") as progress:
            sigma = SIGMA if sigma is None else sigma
            done = degrade_volume(source, destination, sigma=sigma, seed=seed, role=role, progress=progress)
    else:
        if sigma is not None:
            raise ConfigRefusal(f"--sigma with {kind}", allowed="it with rician", cure="leave it out")
        check_extra("micrograph", "micrographs")
        from data_prep.degrade.micrographs import degrade_micrographs

        with progress_bar("sections") as progress:
            done = degrade_micrographs(
                source, destination, kind=kind, seed=seed, role=role, grey_range=grey_range, progress=progress
            )
    tell_program(written=[str(done.path), str(done.record)], kind=kind, found=done.sentence)
    typer.echo(done.path)
    typer.echo(f"{kind}: {done.sentence}, against the source; {done.record}", err=True)
