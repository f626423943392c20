"""``make demo``: phantom data, a few minutes of training with the bundle, and a report of what it did.

Everything goes through the same commands and configs that a user runs; nothing here knows about training.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iscl_monai.evaluation.report import ReportCase, metric_rows, provenance, write_report
from iscl_monai.quality.fidelity import FidelityMean, fidelity
from iscl_monai.quality.noise import no_reference_panel

CONFIGS = Path("bundles/iscl/configs")
SUMMARY = (
    "Synthetic patients, low dose simulated. ISCL was trained for a few minutes on unpaired slices of other "
    "synthetic patients, with narrow networks; the report shows patients it never saw. This shows that "
    "everything runs, not how well it does on your scanner."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train on the phantom, denoise its test patients, write the report.

    Returns:
        0 when the denoised scans are at least 1 dB (PSNR over the body) better than the noisy ones, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m iscl_monai.evaluation.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where everything goes (default: demo)")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="bundle settings, e.g. epochs=1")
    options = parser.parse_args(arguments)
    settings = {name: _literal(value) for name, value in (pair.split("=", 1) for pair in options.set)}
    started = time.monotonic()
    train(options.folder, settings)
    cases, gain_db = evaluate(options.folder, settings)
    report = write_report(
        options.folder / "report.html",
        title="ISCL demo: low-dose CT before and after",
        cases=cases,
        made_with=provenance(weights=options.folder / "models" / "model.pt", seed=0, protocol="HU_BODY"),
        summary=SUMMARY,
    )
    minutes = (time.monotonic() - started) / 60
    print(f"PSNR over the body (HU_BODY): {gain_db:+.2f} dB over the noisy input, after {minutes:.1f} minutes")
    print(f"open {report}")
    return 0 if gain_db >= 1 else 1


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def train(folder: Path, settings: dict[str, Any]) -> None:
    """Run the bundle's training with the small and the demo settings, as a user would, or continue it."""
    configs = [str(CONFIGS / name) for name in ("train.json", "small.json", "demo.json")]
    overrides = {"output_dir": str(folder), "ckpt_dir": str(folder / "models"), **settings}
    words = [word for name, value in overrides.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(configs), *words]
    subprocess.run(command, check=True)


def evaluate(folder: Path, settings: dict[str, Any]) -> tuple[list[ReportCase], float]:
    """Denoise the test pairs of the phantom with the bundle's evaluation.

    Returns:
        One case per test patient (its middle slice), and the mean gain in PSNR.
    """
    from ignite.engine import Events
    from monai.bundle import ConfigWorkflow

    overrides: dict[str, Any] = {"evaluator#keep_images": True, **settings}
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / name) for name in ("evaluate.json", "small.json", "demo.json")],
        workflow_type=None,
        logging_file=False,
        output_dir=str(folder),
        ckpt_dir=str(folder / "models"),
        **overrides,
    )
    workflow.initialize()
    evaluator = workflow.parser.get_parsed_content("evaluator")
    outputs: list[dict[str, Any]] = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    evaluator.run()
    pairs = workflow.parser.get_parsed_content("scans").test
    results = [_case(pair.patient, output) for pair, output in zip(pairs, outputs, strict=True)]
    return [case for case, _ in results], sum(gain for _, gain in results) / len(results)


def _case(patient: str, output: dict[str, Any]) -> tuple[ReportCase, float]:
    noisy, denoised, clean = (output[key].float().numpy() for key in ("noisy_hu", "denoised_hu", "clean_hu"))
    before: FidelityMean = fidelity(noisy, clean).mean()
    after: FidelityMean = fidelity(denoised, clean).mean()
    rows = metric_rows(no_reference_panel(noisy, denoised), noisy=before, denoised=after)
    # The phantom's NIfTI files count columns first; a picture wants rows first, the patient's front at the top.
    before_hu, after_hu, truth_hu = (volume[len(volume) // 2].T for volume in (noisy, denoised, clean))
    case = ReportCase(
        f"Patient {patient}",
        before_hu,
        after_hu,
        truth_hu,
        rows,
        note="synthetic phantom, test pair",
    )
    return case, after.gain_over(before)["psnr_db"]


if __name__ == "__main__":
    sys.exit(main())
