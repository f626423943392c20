"""``make demo``: phantom data, a few minutes of fine-tuning with the bundle, a DICOM series denoised, and a report.

Everything goes through the same commands and configs that a user runs; nothing here knows about training.
"""

from __future__ import annotations

import argparse
import ast
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.bundle import bundle_to_read
from iscl_monai.data import ScanPair
from iscl_monai.quality.fidelity import FidelityMean, fidelity
from iscl_monai.quality.noise import no_reference_panel
from iscl_monai.quality.protocol import HU_BODY
from iscl_monai.quality.regions import region_results
from iscl_monai.quality.truth_error import root_hu
from iscl_monai.report.write import ReportCase, metric_rows, provenance, write_report
from iscl_monai.training.validation import TRUTH_ERROR

CONFIGS = bundle_to_read("the folder of the bundle to change to") / "configs"
DENOISED = "denoised"
Volume = NDArray[np.float32]
SUMMARY = (
    "Synthetic patients, low dose simulated. The released weights were fine-tuned for a few minutes on unpaired "
    "slices of other synthetic patients; the report shows patients that neither training saw. All noise is taken away "
    "here, where the released weights leave as much as a full dose has. This shows that everything runs, not how well "
    "it does on your scanner."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fine-tune on the phantom, denoise its test patients, one of them as a user would, and write the report.

    Returns:
        0 when the denoised scans are at least 1 dB (PSNR over the body) better than the noisy ones, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m iscl_monai.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where everything goes (default: demo)")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="bundle settings, e.g. epochs=1")
    options = parser.parse_args(arguments)
    settings = {name: _literal(value) for name, value in (pair.split("=", 1) for pair in options.set)}
    started = time.monotonic()
    train(options.folder, settings)
    results = evaluate(options.folder, settings)
    denoised = denoise_one(options.folder, [result.pair for result in results])
    gain_db = sum(result.gain_db for result in results) / len(results)
    cases = [result.case for result in results]
    if denoised:  # the same patient once, as a user would get it
        cases[0] = series_case(results[0].pair, denoised)
    report = write_report(
        options.folder / "report.html",
        title="ISCL demo: low-dose CT before and after",
        cases=cases,
        made_with=provenance(weights=options.folder / "models" / "model.pt", seed=0, protocol=HU_BODY.identity),
        summary=SUMMARY,
    )
    minutes = (time.monotonic() - started) / 60
    print(f"PSNR over the body (hu-body): {gain_db:+.2f} dB over the noisy input, after {minutes:.1f} minutes")
    print(what_fine_tuning_brought(options.folder / "models" / "validation.json"))
    print(f"open {report}" + (f"; the denoised DICOM series: {denoised}" if denoised else ""))
    return 0 if gain_db >= 1 else 1


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def train(folder: Path, settings: dict[str, Any]) -> None:
    """Run the bundle's fine-tuning with the small and the demo settings, as a user would, or continue it."""
    configs = [str(CONFIGS / name) for name in ("train.json", "small.json", "unet.json", "fine_tune.json", "demo.json")]
    overrides = {"output_dir": str(folder), "ckpt_dir": str(folder / "models"), **settings}
    words = [word for name, value in overrides.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(configs), *words]
    subprocess.run(command, check=True)


def what_fine_tuning_brought(validation: Path) -> str:
    """One line: how far noisy scans, released and fine-tuned weights are from the truth of the validation patients.

    Args:
        validation: the history that the training wrote.
    """
    history = json.loads(validation.read_text(encoding="utf-8"))["history"]
    if TRUTH_ERROR not in history[0]:
        return "the validation patients have no truth to compare with"
    start, best = history[0], min(history, key=lambda entry: float(entry[TRUTH_ERROR]))
    noisy, released, tuned = (
        root_hu(float(number)) for number in (start[f"input_{TRUTH_ERROR}"], start[TRUTH_ERROR], best[TRUTH_ERROR])
    )
    return (
        f"error to the truth, validation patients: noisy {noisy:.1f} HU, released weights {released:.1f} HU, "
        f"fine-tuned {tuned:.1f} HU"
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class TestResult:
    """What the bundle's evaluation made of one test patient.

    Args:
        pair: of the datalist.
        case: the middle slice, for the report.
        gain_db: PSNR over that of the noisy scan.
    """

    __test__ = False  # no class of tests
    pair: ScanPair
    case: ReportCase
    gain_db: float


def evaluate(folder: Path, settings: dict[str, Any]) -> list[TestResult]:
    """Denoise the test pairs of the phantom with the bundle's evaluation.

    Returns:
        One result per test patient, at least one.
    """
    from ignite.engine import Events
    from monai.bundle import ConfigWorkflow

    overrides: dict[str, Any] = {"evaluator#keep_images": True, **settings}
    workflow = ConfigWorkflow(
        config_file=str(CONFIGS / "evaluate.json"),
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
    return [_evaluated(pair, output) for pair, output in zip(pairs, outputs, strict=True)]


def denoise_one(folder: Path, pairs: Sequence[ScanPair]) -> Path | None:
    """Denoise the first test patient's DICOM series with ``iscl-monai denoise`` and the weights just trained.

    Args:
        folder: of the demo; becomes a bundle that can be given to ``--bundle`` from now on.
        pairs: the test pairs.

    Returns:
        The new series in ``denoised/``, which replaces that of an earlier run; None where scans are no DICOM.
    """
    if not pairs[0].noisy.is_dir():
        return None
    (folder / "configs").mkdir(exist_ok=True)
    shutil.copyfile(CONFIGS / "metadata.json", folder / "configs" / "metadata.json")
    denoised = folder / DENOISED
    shutil.rmtree(denoised, ignore_errors=True)
    command = [sys.executable, "-m", "iscl_monai.cli", "denoise", str(pairs[0].noisy), str(denoised)]
    subprocess.run([*command, "--bundle", str(folder)], check=True)
    return denoised


def series_case(pair: ScanPair, denoised: Path) -> ReportCase:
    """The middle slice of a series as it was written, read back from its files.

    Args:
        pair: what was denoised, and its reference.
        denoised: folder of the derived series.
    """
    from iscl_monai.dicom.series import read_series

    after = read_series(denoised)
    before, clean = read_series(pair.noisy), read_series(pair.clean)
    case, _ = _case(f"Patient {pair.patient}, DICOM", before.hu, after.hu, clean.hu)
    return replace(case, note=f"the DICOM series {denoised.name}/, made by iscl-monai denoise: {after.description}")


def _evaluated(pair: ScanPair, output: dict[str, Any]) -> TestResult:
    noisy, denoised, clean = (output[key].float().numpy() for key in ("noisy_hu", "denoised_hu", "clean_hu"))
    if not pair.noisy.is_dir():
        # NIfTI files count columns first; a picture wants rows first, the patient's front at the top.
        noisy, denoised, clean = (volume.transpose(0, 2, 1) for volume in (noisy, denoised, clean))
    case, gain_db = _case(f"Patient {pair.patient}", noisy, denoised, clean)
    return TestResult(pair=pair, case=case, gain_db=gain_db)


def _case(name: str, noisy: Volume, denoised: Volume, clean: Volume) -> tuple[ReportCase, float]:
    """Numbers of three volumes (slice, row, column), pictures of their middle slices, and the gain in PSNR."""
    before: FidelityMean = fidelity(noisy, clean).mean()
    after: FidelityMean = fidelity(denoised, clean).mean()
    panel, regions = no_reference_panel(noisy, denoised), region_results(noisy, denoised)
    rows = metric_rows(panel, regions, noisy=before, denoised=after)
    before_hu, after_hu, truth_hu = (volume[len(volume) // 2] for volume in (noisy, denoised, clean))
    case = ReportCase(name, before_hu, after_hu, truth_hu, rows, note="synthetic phantom, test pair")
    return case, after.gain_over(before)["psnr_db"]


if __name__ == "__main__":
    sys.exit(main())
