"""Who feeds which section: the rule, the numbers held out, and the search for balance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from data_prep.split.balance import Counts, Shares, Tally, count_option, stratum
from data_prep.split.parts import Option, cuts, whole
from data_prep.split.people import Person
from data_prep.split.request import SplitRequest
from iscl_monai.errors import DatalistRefusal

DRAWS = 8
"""Ways to hold patients out, of which the best balanced one is taken."""

TRIALS = 20_000
"""Changes tried at most in search of balance; some seconds."""

HELD_OUT = ("validation", "test")

PER_POOL = 2
"""Patients that could feed either pool, which each pool should get; with one, pool and patient would be the same."""


@dataclass(frozen=True)
class Plan:
    """How the patients are divided.

    Attributes:
        by: ``patient`` or ``z``.
        why: in words.
        validation: number of whole patients held out for validation.
        test: likewise for the test.
    """

    by: str
    why: str
    validation: int
    test: int


def make_plan(people: Sequence[Person], request: SplitRequest) -> Plan:
    """Decide between whole patients and parts of patients, and how many are held out.

    ``auto`` divides by patient when each pool gets two or more of those who could feed either, after validation and
    test have taken theirs; or when nobody could feed either; or when nobody can be cut.

    Raises:
        DatalistRefusal: when one pool must stay empty.
    """
    free = [person for person in people if person.free]
    held_out = [_number(request.validation, people), _number(request.test, people)]
    needed = 2 * PER_POOL + sum(held_out)
    have = f"{len(free)} of {len(people)} patients could feed either pool"
    to_cut = [person for person in free if cuts(person, request)]
    if request.by == "z" and not to_cut:
        raise DatalistRefusal(
            f"{have}, and none of them can be cut along z",
            allowed="patients with one scan, known positions, long enough for two parts",
            cure="leave --by out, or scan more",
        )
    if request.by != "auto":
        by, why = request.by, "as asked for"
    elif not to_cut:
        by, why = "patient", f"{have}, and none can be cut" if free else "every patient has only one kind of scan"
    elif len(free) >= needed:
        by, why = "patient", f"{have}, {needed} are enough"
    else:
        by, why = "z", f"{have}; whole patients would need {needed}"
    if by == "z":
        # Of two or three patients one part each is worth more than a test.
        return Plan(by, why, 0, min(held_out[1], max(0, len(to_cut) - 2)))
    return Plan(by, why, *_affordable(people, held_out))


def assign(people: Sequence[Person], plan: Plan, request: SplitRequest) -> dict[str, Option]:
    """Choose for each patient what becomes of it, in balance.

    Args:
        people: sorted by name.
        plan: from :func:`make_plan`.
        request: what was asked for.

    Returns:
        One option per patient.

    Raises:
        DatalistRefusal: when one pool stays empty.
    """
    shares = Shares(request.validation if plan.validation or plan.by == "z" else 0, request.test if plan.test else 0)
    order = {person.patient: request.lot("order", person.patient) for person in people}
    searches = [
        _Search(_menus(people, plan, request, draw), shares, levels=plan.by == "z", order=order)
        for draw in range(DRAWS if plan.validation or plan.test else 1)
    ]
    search = min(searches, key=_Search.imbalance)
    search.improve()
    chosen = search.chosen()
    for pool, other in (("noisy", "clean"), ("clean", "noisy")):
        if not any(pool in option for option in chosen.values()):
            raise _nothing_for(pool, other, people, plan)
    return chosen


def _nothing_for(pool: str, other: str, people: Sequence[Person], plan: Plan) -> DatalistRefusal:
    cure = "scan more patients" if plan.by == "z" else "scan more patients, or leave --by out to cut patients along z"
    return DatalistRefusal(
        f"nothing is left for {pool!r}: {len(people)} patient{'s' * (len(people) != 1)}, divided by {plan.by}",
        allowed=f"other patients than those of {other!r}, or a scan long enough to cut",
        cure=cure,
    )


def _number(share: float, people: Sequence[Person]) -> int:
    pairable = sum(bool(person.pairs) for person in people)
    return max(1, round(share * pairable)) if share and pairable else 0


def _affordable(people: Sequence[Person], held_out: Sequence[int]) -> tuple[int, int]:
    """Fewer for the test, then for validation, when a pool would stay empty."""
    free = sum(person.free for person in people)
    only_noisy = any(person.noisy and not person.clean for person in people)
    only_clean = any(person.clean and not person.noisy for person in people)
    spare = max(0, free - (not only_noisy) - (not only_clean))
    pairable = sum(bool(person.pairs) for person in people)
    validation = min(held_out[0], spare)
    return validation, min(held_out[1], min(spare, pairable) - validation)


@dataclass(frozen=True)
class _Menu:
    """What may become of a patient: the options to feed the pools, then those to be held out, always in one order."""

    options: Sequence[Option]
    pools: int
    start: int


def _menus(people: Sequence[Person], plan: Plan, request: SplitRequest, draw: int) -> dict[str, _Menu]:
    held_out = _held_out(people, plan, request, draw)
    menus: dict[str, _Menu] = {}
    for person in people:
        section = held_out.get(person.patient)
        parts = cuts(person, request) if plan.by == "z" else []
        pools = parts or [whole(person, name) for name in ("noisy", "clean") if getattr(person, name)]
        if section is not None and plan.by == "z":
            menus[person.patient] = _Menu([whole(person, section)], 0, 0)
        elif person.pairs and plan.by == "patient":
            options = [*pools, *(whole(person, name) for name in HELD_OUT)]
            start = len(pools) + HELD_OUT.index(section) if section else 0
            menus[person.patient] = _Menu(options, len(pools), start)
        else:
            menus[person.patient] = _Menu(pools, len(pools), 0)
    return menus


def _held_out(people: Sequence[Person], plan: Plan, request: SplitRequest, draw: int) -> dict[str, str]:
    """Every n-th patient with a pair, in the order of strata: each stratum gives its share."""
    waiting = sorted(
        (person for person in people if person.pairs),
        key=lambda person: (stratum(person.noisy[0]), request.lot("held out", str(draw), person.patient)),
    )
    chosen: dict[str, str] = {}
    for section, number in (("test", plan.test), ("validation", plan.validation)):
        offset = request.lot("offset", str(draw), section) / 2**64
        taken = {int((index + offset) * len(waiting) / number) for index in range(number)}
        chosen.update({waiting[index].patient: section for index in taken})
        waiting = [person for person in waiting if person.patient not in chosen]
    return chosen


class _Search:
    """From the largest patient to the smallest the best choice, then single changes while they help."""

    def __init__(self, menus: Mapping[str, _Menu], shares: Shares, *, levels: bool, order: Mapping[str, int]) -> None:
        self._menus = menus
        self._counts = {name: [count_option(option, levels=levels) for option in menus[name].options] for name in menus}
        self._tally = Tally(shares)
        self._names = sorted(menus, key=lambda name: (self._movable(name), -self._size(name), order[name]))
        self._choice = {name: menu.start for name, menu in menus.items()}
        for name in self._names:
            self._tally.add(self._of(name))
            for change in self._moves(name):
                self._try(change)

    def imbalance(self) -> float:
        """Slices in the wrong place."""
        return self._tally.imbalance(dict.fromkeys(key for name in self._names for _, key in self._of(name)))

    def chosen(self) -> dict[str, Option]:
        return {name: self._menus[name].options[self._choice[name]] for name in sorted(self._menus)}

    def improve(self) -> None:
        """Try every change of one patient and every exchange of two, until none helps."""
        trials = 0
        improved = True
        while improved:
            improved = False
            for changes in self._changes():
                trials += 1
                if trials > TRIALS:
                    return
                improved |= self._try(changes)

    def _changes(self) -> Iterator[dict[str, int]]:
        movable = [name for name in self._names if len(self._menus[name].options) > 1]
        for name in movable:
            yield from self._moves(name)
        for index, one in enumerate(movable):
            for other in movable[index + 1 :]:
                a, b = self._choice[one], self._choice[other]
                if a != b and max(a, b) < min(len(self._menus[one].options), len(self._menus[other].options)):
                    yield {one: b, other: a}

    def _moves(self, name: str) -> Iterator[dict[str, int]]:
        """Changes of one patient that leave the number of those held out as it is."""
        if self._choice[name] < self._menus[name].pools:
            yield from ({name: choice} for choice in range(self._menus[name].pools))

    def _movable(self, name: str) -> bool:
        menu = self._menus[name]
        return menu.pools > 1 and menu.start < menu.pools

    def _try(self, changes: Mapping[str, int]) -> bool:
        """Make the changes if they help; whether they did."""
        before = {name: self._choice[name] for name in changes}
        if before == changes:
            return False
        keys = dict.fromkeys(
            key
            for name, choice in changes.items()
            for counts in (self._counts[name][choice], self._counts[name][before[name]])
            for _, key in counts
        )
        imbalance = self._tally.imbalance(keys)
        self._change(changes)
        if self._tally.imbalance(keys) < imbalance - 1e-6:
            return True
        self._change(before)
        return False

    def _change(self, changes: Mapping[str, int]) -> None:
        for name, choice in changes.items():
            self._tally.add(self._of(name), -1)
            self._choice[name] = choice
            self._tally.add(self._of(name))

    def _of(self, name: str) -> Counts:
        return self._counts[name][self._choice[name]]

    def _size(self, name: str) -> int:
        return max(
            sum(part.slices for parts in option.values() for part in parts) for option in self._menus[name].options
        )
