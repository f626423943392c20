"""The table: one protocol, one row per method and seed, the noisy input first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from iscl_monai.evaluation.benchmark.result import INPUT, Benchmark, Row
from iscl_monai.evaluation.benchmark.seeds import seeds_table
from iscl_monai.evaluation.benchmark.sweep import sweep_table
from iscl_monai.evaluation.ceiling import Ceiling, excess_rmse_hu
from iscl_monai.quality.cohort import INTERVAL, Cohort, Estimate
from iscl_monai.quality.protocol import TRUTH_PROTOCOLS, Protocol
from iscl_monai.report.numbers import NOT_GIVEN
from iscl_monai.report.section import Table

PERFECT = "A perfect denoiser (ceiling)"

FIDELITY = (
    ("psnr_db", "PSNR, dB", 2),
    ("ssim", "SSIM", 3),
    ("rmse_hu", "RMSE, HU", 1),
    ("vif", "VIF", 3),
    ("mean_shift_hu", "mean shift, HU", 1),
)


def fidelity_table(result: Benchmark, protocol: Protocol) -> Table:
    """Means over patients on one protocol, with the gain in PSNR over the noisy input and its interval.

    Against references also what a perfect denoiser would reach, and the error beyond the reference's own noise.
    """
    cohorts, gains = result.cohorts(protocol), result.gains(protocol)
    columns = [column for column in FIDELITY if column[0] in protocol.quantities]
    against_reference = protocol.name not in TRUTH_PROTOCOLS
    known = result.ceilings.get(protocol.identity, {})
    blanks = len(columns) + against_reference
    lines = []
    for index, row in enumerate(result.rows):
        cells = [_title(result, row), row.method.kind]
        if index not in cohorts:
            lines.append([*cells, f"no weights: {row.stopped}", *[NOT_GIVEN] * blanks])
            continue
        gain = gains[index].estimates["psnr_db"] if index in gains else None
        cells.append(NOT_GIVEN if gain is None else _interval(gain, 2))
        cells += [_mean(cohorts[index], name, digits) for name, _, digits in columns]
        if against_reference:
            errors = {patient: mean.mse_hu2 for patient, mean in row.fidelity[protocol.identity].items()}
            cells.append(_plain(excess_rmse_hu(errors, known), 1))
        lines.append(cells)
    if against_reference:
        lines.append(_perfect(known, cohorts, columns))
    some = next(iter(cohorts.values()))
    title = f"{protocol.identity}: {len(some.patients)} patients, {some.slices} slices, section {result.section}"
    heads = ["method", "learns from", f"PSNR gain ({INTERVAL}), dB", *[head for _, head, _ in columns]]
    return Table(title=title, heads=[*heads, *(["excess RMSE, HU"] if against_reference else [])], lines=lines)


def _perfect(
    known: Mapping[str, Ceiling], cohorts: Mapping[int, Cohort], columns: Sequence[tuple[str, str, int]]
) -> list[str]:
    """The row of a denoiser that leaves no noise and changes nothing else, against a reference that has noise."""
    complete = bool(known) and set(known) == set(next(iter(cohorts.values())).patients)
    values: dict[str, float] = {}
    gain = math.nan
    if complete:
        gain = float(np.mean([one.gain_db for one in known.values()]))
        values = {
            "psnr_db": float(np.mean([one.psnr_db for one in known.values()])),
            "rmse_hu": float(np.mean([math.sqrt(one.reference_mse_hu2) for one in known.values()])),
        }
    cells = [_plain(values.get(name, math.nan), digits) for name, _, digits in columns]
    return [PERFECT, "the truth", NOT_GIVEN if math.isnan(gain) else f"{gain:+.2f}", *cells, _plain(0.0 * gain, 1)]


def patients_table(result: Benchmark, protocol: Protocol) -> Table:
    """PSNR of each patient: where a method wins, and where it does not."""
    noisy = next(row for row in result.rows if row.method.name == INPUT).fidelity[protocol.identity]
    lines = [
        [_title(result, row), *[f"{row.fidelity[protocol.identity][patient].psnr_db:.2f}" for patient in noisy]]
        for row in result.rows
        if row.fidelity
    ]
    return Table(title=f"PSNR by patient, dB, {protocol.identity}", heads=["method", *noisy], lines=lines)


def all_tables(result: Benchmark, protocols: Sequence[Protocol]) -> list[Table]:
    """Every table but those at equal noise, in the order of the page.

    Args:
        result: of the benchmark.
        protocols: against references.
    """
    tables = [
        *(fidelity_table(result, protocol) for protocol in (*protocols, *result.truth_protocols)),
        seeds_table(result, protocols[0]),
        sweep_table(result.swept),
        patients_table(result, protocols[0]),
        learned_table(result),
        physics_table(result),
        cost_table(result),
    ]
    return [table for table in tables if table is not None]


def learned_table(result: Benchmark) -> Table:
    """What each row was trained on: only those trained here saw the same patches for the same number of steps."""
    lines = [[_title(result, row), row.learned_from] for row in result.rows if row.method.name != INPUT]
    return Table(title="What each row has learned from", heads=["method", "learned from"], lines=lines, words=(1,))


def physics_table(result: Benchmark) -> Table | None:
    """Headline numbers on phantoms; None where nothing was measured."""
    measured = [row for row in result.rows if row.physics]
    if not measured:
        return None
    names = list(measured[0].physics)
    lines = [[_title(result, row), *[_plain(row.physics.get(name, math.nan), 2) for name in names]] for row in measured]
    return Table(
        title="Physics on phantoms at a quarter of the dose (iscl-monai qa)",
        heads=["method", *[name.replace("_", " ") for name in names]],
        lines=lines,
    )


def cost_table(result: Benchmark) -> Table:
    """What each method costs."""
    columns: Sequence[tuple[str, Callable[[Row], float], int]] = (
        ("parameters", lambda row: row.cost.parameters if row.cost else math.nan, 0),
        ("GFLOP/slice", lambda row: row.cost.gflop if row.cost else math.nan, 1),
        ("CPU s/slice", lambda row: row.cost.seconds if row.cost else math.nan, 2),
        ("peak memory, MiB", lambda row: row.cost.peak_mib if row.cost else math.nan, 0),
        ("training, CPU min", lambda row: row.training_cpu_seconds / 60, 1),
    )
    lines = [
        [_title(result, row), *[_plain(value(row), digits) for _, value, digits in columns]]
        for row in result.rows
        if row.method.name != INPUT
    ]
    return Table(
        title="Cost of one slice of 512x512 on one thread, and of training",
        heads=["method", *[head for head, _, _ in columns]],
        lines=lines,
    )


def _title(result: Benchmark, row: Row) -> str:
    return f"{row.method.title}{result.seed_of(row)}" + (" (stopped early)" if row.stopped else "")


def _mean(measured: Cohort, name: str, digits: int) -> str:
    return _plain(measured.estimates[name].mean, digits)


def _interval(gain: Estimate, digits: int) -> str:
    return gain.text(digits, signed=True)


def _plain(value: float, digits: int) -> str:
    if math.isnan(value):
        return NOT_GIVEN
    return f"{value:,.{digits}f}" if math.isfinite(value) else "∞"
