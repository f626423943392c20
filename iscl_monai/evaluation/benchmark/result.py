"""What a benchmark found, and what made it."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from iscl_monai.evaluation.benchmark.cost import Cost
from iscl_monai.evaluation.benchmark.methods import BUNDLE, IMAGES, Method
from iscl_monai.evaluation.benchmark.score import to_json
from iscl_monai.evaluation.benchmark.sweep import Swept
from iscl_monai.evaluation.ceiling import Ceiling
from iscl_monai.evaluation.equal_noise.curves import MethodCurves, groups_of, method_curves
from iscl_monai.evaluation.equal_noise.tables import REFERENCES
from iscl_monai.quality.cohort import INTERVAL, Cohort, cohort, paired_difference
from iscl_monai.quality.fidelity import FidelityMean
from iscl_monai.quality.protocol import Protocol
from iscl_monai.report.write import provenance

INPUT = "input"


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One method, trained with one seed.

    Args:
        method: what it is.
        seed: of its training; of no meaning where nothing is trained.
        stopped: why its training stopped before its end; empty: it did not.
        fidelity: by protocol identity and patient; empty where there are no weights.
        physics: headline numbers on phantoms; empty where not measured.
        cost: of one slice; None where there are no weights.
        training_cpu_seconds: NaN where nothing is trained.
        weights: SHA-256 of the weights file.
        submission: of a submitted method: where it came from, and its digest.
        pictures: file of denoised slices by patient.
        repeatable: False of a submitted function that gave two results for one slice.
        learned_from: what it was trained on and for how long, as far as that is known.
        equal_noise: of :func:`iscl_monai.evaluation.equal_noise.measure.measured`; empty where there are no weights.
    """

    method: Method
    seed: int
    stopped: str = ""
    fidelity: Mapping[str, Mapping[str, FidelityMean]] = field(default_factory=dict)
    physics: Mapping[str, float] = field(default_factory=dict)
    cost: Cost | None = None
    training_cpu_seconds: float = math.nan
    weights: str = ""
    submission: Mapping[str, str] = field(default_factory=dict)
    pictures: Path | None = None
    repeatable: bool = True
    learned_from: str = ""
    equal_noise: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """All rows.

    Args:
        rows: in the table's order, the noisy input first.
        steps: that every learned method was trained for.
        section: of the datalist that was scored.
        made_with: versions, hardware, commit, datalist.
        ceilings: of a perfect denoiser, by protocol identity and patient.
        truth_protocols: those of the pairs whose truth is known.
        swept: what the sweeps chose; empty without one.
    """

    rows: Sequence[Row]
    steps: int
    section: str
    made_with: Mapping[str, str]
    ceilings: Mapping[str, Mapping[str, Ceiling]] = field(default_factory=dict)
    truth_protocols: Sequence[Protocol] = ()
    swept: Sequence[Swept] = ()

    def cohorts(self, protocol: Protocol) -> dict[int, Cohort]:
        """Means over patients of each row that has weights, by its index."""
        return {index: cohort(row.fidelity[protocol.identity]) for index, row in enumerate(self.rows) if row.fidelity}

    def gains(self, protocol: Protocol) -> dict[int, Cohort]:
        """Paired differences from the noisy input, by index of the row."""
        noisy = next(row for row in self.rows if row.method.name == INPUT).fidelity[protocol.identity]
        return {
            index: paired_difference(row.fidelity[protocol.identity], noisy)
            for index, row in enumerate(self.rows)
            if row.fidelity and row.method.name != INPUT
        }

    def notes(self) -> list[str]:
        """What a reader of the tables must know of submitted methods."""
        submitted = [row for row in self.rows if row.method.submitted and row.method.kind != BUNDLE]
        bundles = [row.method.title for row in self.rows if row.method.kind == BUNDLE]
        images = [row.method.title for row in submitted if row.method.kind == IMAGES]
        moody = [row.method.title for row in submitted if not row.repeatable]
        notes = []
        if submitted:
            names = ", ".join(row.method.title for row in submitted)
            notes.append(
                f"{names}: submitted methods; nothing says which patients they have seen or how they were made"
            )
        if bundles:
            notes.append(f"{', '.join(bundles)}: weights trained elsewhere, which name no scored patient as seen")
        if images:
            notes.append(
                f"{', '.join(images)}: denoised scans, not a method: what needs new images to be denoised (phantoms, "
                f"cost) cannot be measured, and is left out or a dash"
            )
        if moody:
            notes.append(
                f"{', '.join(moody)}: not repeatable, one slice gave two results; a second run gives other figures"
            )
        return notes

    def curves(self) -> dict[str, list[MethodCurves]]:
        """Curves of each row over its strength, by group of patients: noisy references first, then each truth."""
        measured = [(f"{row.method.title}{self.seed_of(row)}", row.equal_noise) for row in self.rows if row.equal_noise]
        groups = groups_of(measured[0][1]) if measured else []
        return {group: [method_curves(title, one, group) for title, one in measured] for group in groups}

    def seed_of(self, row: Row) -> str:
        """As printed behind a method's title, where there are several seeds."""
        several = len({other.seed for other in self.rows}) > 1
        return f", seed {row.seed}" if row.method.training and several else ""

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, without NaN."""
        return {
            "made_with": dict(self.made_with),
            "steps": self.steps,
            "section": self.section,
            "interval": INTERVAL,
            "notes": self.notes(),
            "ceilings": {
                identity: {patient: asdict(ceiling) for patient, ceiling in patients.items()}
                for identity, patients in self.ceilings.items()
            },
            "swept": [one.to_json() for one in self.swept],
            "rows": [_row(row) for row in self.rows],
            "equal_noise": {
                group or REFERENCES: {one.title: one.to_json() for one in curves}
                for group, curves in self.curves().items()
            },
        }


def _row(row: Row) -> dict[str, Any]:
    return {
        "method": row.method.name,
        "kind": row.method.kind,
        "seed": row.seed if row.method.training else None,
        "stopped": row.stopped,
        "learned_from": row.learned_from,
        "weights": row.weights,
        "submission": row.submission or None,
        "training_cpu_seconds": _number(row.training_cpu_seconds),
        "fidelity": to_json(row.fidelity),
        "physics": {name: _number(value) for name, value in row.physics.items()},
        "cost": {} if row.cost is None else {name: _number(value) for name, value in asdict(row.cost).items()},
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def provenance_of(datalist: str, budget: str, configs: Sequence[str], settings: Mapping[str, Any]) -> dict[str, str]:
    """What a reader needs to make the table again.

    Args:
        datalist: name and digest of the scans.
        budget: as given.
        configs: after ``train.json``.
        settings: overrides for all methods.
    """
    more = {
        "commit": _commit(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "accelerator": _accelerator(),
        "datalist": datalist,
        "budget": budget,
        "configs": ", ".join(["train.json", *configs]),
        "settings": ", ".join(f"{name}={value}" for name, value in settings.items()) or "as in the configs",
    }
    return provenance() | more


def _commit() -> str:
    """Of the repository the package stands in; installed packages have none."""
    described = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "not in a repository"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _accelerator() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
