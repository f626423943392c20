"""Named splits of LDCT-and-Projection-data, and what must not be scored with weights of another one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from iscl_monai.errors import ConfigRefusal, LeakRefusal

REGIONS = {"abdomen": "L", "chest": "C", "neuro": "N"}
DOSES = {"abdomen": 0.25, "chest": 0.1, "neuro": 0.25}
"""Of the Low Dose Images, as share of the full dose."""

_SPLITS = Path(__file__).parent / "published"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A published split; patients by the collection's IDs.

    Attributes:
        name: e.g. ``ldct-bench``.
        source: who published it.
        doi: of that publication.
        train: seen in training.
        validation: seen when weights are chosen.
        test: for scoring only.
    """

    name: str
    source: str
    doi: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def regions(self) -> tuple[str, ...]:
        """The regions that any of its patients is of."""
        return tuple(region for region in REGIONS if any(region_of(name) == region for name in self.train))


def region_of(patient: str) -> str:
    """``abdomen``, ``chest`` or ``neuro``, by the first letter of the ID."""
    return next(region for region, letter in REGIONS.items() if patient.startswith(letter))


def protocol_names() -> tuple[str, ...]:
    """All named splits that come with the package."""
    return tuple(sorted(file.stem for file in _SPLITS.glob("*.json")))


@cache
def load_protocol(name: str) -> Protocol:
    """A named split.

    Raises:
        ConfigRefusal: when there is none of this name.
    """
    if name not in protocol_names():
        raise ConfigRefusal(f"protocol {name!r}", allowed=", ".join(protocol_names()), cure="give one of them")
    content = json.loads((_SPLITS / f"{name}.json").read_text(encoding="utf-8"))
    lists = {key: tuple(content[key]) for key in ("train", "validation", "test")}
    return Protocol(name=content["name"], source=content["source"], doi=content["doi"], **lists)


ALLOWED_ROLES = {
    "noisy": ("train",),
    "clean": ("train",),
    "validation": ("train", "validation"),
    "test": ("test",),
}
"""Section of a datalist -> roles of the split; a split without validation patients takes them from training."""


def check_roles(name: str, sections: Mapping[str, Iterable[str]]) -> None:
    """Refuse a datalist that says it follows a split, and gives one of its patients another role.

    Patients that the split does not name are nobody's business here.

    Args:
        name: of the split.
        sections: section of the datalist -> patients.

    Raises:
        LeakRefusal: naming patient, section and role.
        ConfigRefusal: when there is no such split.
    """
    protocol = load_protocol(name)
    roles = {patient: role for role in ("train", "validation", "test") for patient in getattr(protocol, role)}
    for section, patients in sections.items():
        for patient in patients:
            role = roles.get(patient)
            if role is not None and role not in ALLOWED_ROLES[section]:
                raise LeakRefusal(
                    f"patient {patient!r} in {section!r} is a {role} patient of {name}",
                    allowed=f"its {' or '.join(ALLOWED_ROLES[section])} patients, and others that it does not name",
                    cure="move the patient, or leave split_protocol out and claim no such split",
                )


def refuse_collisions(trained_on: str, patients: Iterable[str]) -> None:
    """Refuse to score weights on patients that the weights have seen.

    Args:
        trained_on: the split that the weights were trained with.
        patients: IDs to be scored.

    Raises:
        LeakRefusal: naming the split and every such ID, those of training and those the weights were chosen on.
        ConfigRefusal: when there is no such split.
    """
    protocol = load_protocol(trained_on)
    scored = set(patients)
    seen = {"training": protocol.train, "validation": protocol.validation}
    found = {side: sorted(scored & set(names)) for side, names in seen.items()}
    if not any(found.values()):
        return
    sets = " and ".join(f"{', '.join(names)} in its {side} set" for side, names in found.items() if names)
    raise LeakRefusal(
        f"weights trained on {trained_on} have seen {sets}",
        allowed="patients that the weights have not seen",
        cure=f"score on the test patients of {trained_on}, or train anew on the other split",
    )
