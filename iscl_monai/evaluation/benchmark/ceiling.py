"""Ceilings of the pairs of a benchmark, see :mod:`iscl_monai.evaluation.ceiling`."""

from __future__ import annotations

from collections.abc import Sequence

from iscl_monai.evaluation.benchmark.score import LoadedPair, judged_by_reference
from iscl_monai.evaluation.ceiling import Ceiling, Floats, patient_ceiling, perfect_slices
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.quality.protocol import Protocol


def ceilings(pairs: Sequence[LoadedPair], protocols: Sequence[Protocol]) -> dict[str, dict[str, Ceiling]]:
    """By protocol identity and patient; patients of whom neither dose nor truth is known are left out.

    Args:
        pairs: all that are scored.
        protocols: those against references.
    """
    judged = judged_by_reference(pairs)
    unknown = {pair.patient for pair in judged if pair.truth_hu is None and pair.dose is None}
    return {
        protocol.identity: _patients([pair for pair in judged if pair.patient not in unknown], protocol)
        for protocol in protocols
    }


def _patients(pairs: Sequence[LoadedPair], protocol: Protocol) -> dict[str, Ceiling]:
    scans: dict[str, list[Floats]] = {}
    for pair in pairs:
        noisy = fidelity(pair.noisy_hu, pair.clean_hu, protocol=protocol)
        perfect = None if pair.truth_hu is None else fidelity(pair.truth_hu, pair.clean_hu, protocol=protocol)
        scans.setdefault(pair.patient, []).append(perfect_slices(noisy, perfect=perfect, dose=pair.dose))
    return {patient: patient_ceiling(each) for patient, each in scans.items()}
