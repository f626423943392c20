"""One row per method that was trained with several seeds: a difference smaller than the range over seeds is luck."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np

from iscl_monai.evaluation.benchmark.result import INPUT, Benchmark, Row
from iscl_monai.quality.cohort import INTERVAL, mean_over_patients, paired_difference
from iscl_monai.quality.fidelity import FidelityMean
from iscl_monai.quality.protocol import Protocol
from iscl_monai.report.section import Table


def over_seeds(seeds: Sequence[Mapping[str, FidelityMean]]) -> dict[str, FidelityMean]:
    """The mean over seeds of each patient.

    Args:
        seeds: patient -> mean over his slices; the same patients and slices of each seed.
    """
    measured = [one.name for one in fields(FidelityMean) if one.name not in ("protocol", "slices")]
    return {
        patient: replace(one, **{name: np.mean([getattr(seed[patient], name) for seed in seeds]) for name in measured})
        for patient, one in seeds[0].items()
    }


def seeds_table(result: Benchmark, protocol: Protocol) -> Table | None:
    """Gain in PSNR of each method over its seeds; None where no method has several.

    The interval is that over patients of the patients' means over seeds; the range is that of the seeds' means over
    patients.
    """
    noisy = next(row for row in result.rows if row.method.name == INPUT).fidelity[protocol.identity]
    lines = []
    for _, rows in itertools.groupby(result.rows, key=lambda row: row.method):
        line = _line(list(rows), noisy, protocol)
        if line is not None:
            lines.append(line)
    if not lines:
        return None
    heads = ["method", "seeds", f"PSNR gain ({INTERVAL}), dB", "lowest seed, dB", "highest seed, dB", "RMSE, HU"]
    return Table(title=f"Means over seeds, {protocol.identity}", heads=heads, lines=lines)


def _line(rows: Sequence[Row], noisy: Mapping[str, FidelityMean], protocol: Protocol) -> list[str] | None:
    if len(rows) < 2:
        return None
    measured = [row.fidelity[protocol.identity] for row in rows if row.fidelity]
    lost = len(rows) - len(measured)
    seeds = f"{len(measured)} of {len(rows)}" if lost else str(len(rows))
    if not measured:
        return [rows[0].method.title, seeds, *["no weights"] * 4]
    mean = over_seeds(measured)
    gain = paired_difference(mean, noisy).estimates["psnr_db"]
    each = [paired_difference(one, noisy).estimates["psnr_db"].mean for one in measured]
    rmse_hu = mean_over_patients([one.rmse_hu for one in mean.values()]).mean
    ends = [f"{end:+.2f}" for end in (min(each), max(each))]
    return [rows[0].method.title, seeds, gain.text(2, signed=True), *ends, f"{rmse_hu:.1f}"]
