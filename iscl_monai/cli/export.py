"""``iscl-monai export``: argument parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iscl_monai.console import exit_codes, say
from iscl_monai.spoken import tell_program


def export(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle, e.g. bundles/iscl.")],
    destination: Annotated[Path, typer.Argument(metavar="OUT", help="File to make.")],
    kind: Annotated[str, typer.Option("--format", help="onnx, pt2 (torch.export) or torchscript.")] = "onnx",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="WHICH",
            help="trained, ensemble or student, as of denoise.  [default: trained if there are any, else ensemble]",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[str, typer.Option(help="ensemble, generator or extractor, as of denoise.")] = "ensemble",
    target_noise: Annotated[
        float | None, typer.Option(metavar="HU", min=0, help="As of denoise.", show_default=False)
    ] = None,
    target_dose: Annotated[
        float | None, typer.Option(metavar="TIMES", help="As of denoise.", show_default=False)
    ] = None,
) -> None:
    """Write the denoiser of a bundle as one file for other programs: Hounsfield units in and out, slices of any size.

    The file appears when it has answered as torch does, at three shapes.

    Example:
        iscl-monai export bundles/iscl denoiser.onnx --weights student
    """
    with exit_codes():
        from iscl_monai.durable import check_free
        from iscl_monai.released import weights_in

        file = weights_in(bundle, weights).path
        check_free(destination)
        from iscl_monai.inference.denoiser import network_in
        from iscl_monai.inference.export import TOLERANCE_HU
        from iscl_monai.inference.export import export as run

        network = network_in(file, mode=mode, target_noise_hu=target_noise, target_dose=target_dose)
        made = run(network, destination, kind)
        tell_program(written=[str(made.path)], difference_hu=made.difference_hu, allowed_hu=TOLERANCE_HU)
        say(f"largest difference to torch: {made.difference_hu:.2g} HU (allowed: {TOLERANCE_HU:g} HU)")
        say(f"written: {made.path}")
