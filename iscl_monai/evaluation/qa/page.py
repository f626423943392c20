"""The page of a quality check: verdicts first, then curves and pictures, how it was measured, and what was not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.durable import whole_file
from iscl_monai.evaluation.qa.by_dose import percent, told
from iscl_monai.evaluation.qa.explained import MEASURED, NOT_MEASURED
from iscl_monai.evaluation.qa.noise_plots import noise_plots
from iscl_monai.evaluation.qa.phantom import ANATOMY, INSERTS, MODULES
from iscl_monai.evaluation.qa.result import Picture, QaResult, Verdict
from iscl_monai.evaluation.qa.rod_plots import rod_plots
from iscl_monai.evaluation.qa.signal_plots import lesion_plots, task_plots
from iscl_monai.hu import HUWindow
from iscl_monai.report.page import (
    DISCLAIMER,
    MINUS,
    SOFT_TISSUE,
    View,
    page_html,
    png_address,
    provenance_html,
)

TITLE = "Image quality on phantoms"
NARROW = View("narrow 0/100", HUWindow(-50, 50))
WIDE = View("wide 0/2000", HUWindow(-1000, 1000))
ERROR = View("mean of all outputs minus truth, ±20 HU", HUWindow(-20, 20))
PLANE = View("black 0, white its peak; frequency 0 in the middle", HUWindow(0, 1))
VIEWS = {name: SOFT_TISSUE if name in ANATOMY else WIDE if name == INSERTS else NARROW for name in MODULES}

STYLE = """<style>
.plots { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1.25rem 1.5rem; margin: .75rem 0 1rem; }
.plots svg.plot { flex: 1 1 500px; min-width: min(100%, 320px); max-width: 640px !important; }
.planes { display: flex; flex-wrap: wrap; gap: 1rem; margin: .75rem 0; }
.planes figure { width: 256px; }
td.all { text-align: center; }
td.quiet { color: var(--quiet); }
.pass { --tint: #1a7f37; } .fail { --tint: #cf222e; } .open { --tint: #9a6700; }
@media (prefers-color-scheme: dark) { .pass { --tint: #3fb950; } .fail { --tint: #ff7b72; } .open { --tint: #d29922; } }
td.pass, td.fail, td.open, b.pass, b.fail, b.open { color: var(--tint); }
td.fail { font-weight: 700; }
#verdicts td, #verdicts th { white-space: normal; }
#verdicts th[scope=row] { max-width: 34rem; }
.how dt { color: var(--ink); font-weight: 600; }
.how dl { grid-template-columns: minmax(9rem, max-content) minmax(0, 80ch); gap: .5rem 1.25rem; }
details { margin: .5rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 900px) { .how dl { grid-template-columns: minmax(0, 1fr); } }
</style>"""
MARKS = {
    "pass": ("pass", "✓"),
    "fail": ("fail", "✗"),
    "not measurable": ("open", "not measurable"),
    "not judged": ("quiet", ""),
}


def write_page(path: Path, result: QaResult, *, made_with: Mapping[str, str]) -> Path:
    """Write one self-contained HTML file; it appears whole or not at all.

    Args:
        path: the file to write.
        result: what to show.
        made_with: see :func:`iscl_monai.report.write.provenance`.

    Returns:
        ``path``.
    """
    body = (
        STYLE,
        f"<h1>{TITLE}</h1>",
        f'<p class="warning"><strong>{DISCLAIMER}.</strong></p>',
        _summary(result),
        _verdicts(result),
        _plots("Noise and its texture", noise_plots(result)),
        _planes(result),
        _slices(result),
        _plots("Sharpness and Hounsfield units", rod_plots(result)),
        _rods(result),
        _plots("Detectability", task_plots(result)),
        _plots("Small lesions and inventions", lesion_plots(result)),
        *(_pictures(result, name) for name in MODULES),
        _explained(),
        provenance_html(dict(made_with)),
    )
    with whole_file(path) as file:
        file.write(page_html(TITLE, "\n".join(body)).encode("utf-8", "backslashreplace"))
    return path


def _summary(result: QaResult) -> str:
    counts = {status: sum(one.status == status for one in result.verdicts) for status in MARKS}
    judged = len(result.verdicts) - counts["not judged"]
    phantom, denoiser = result.phantom, result.denoiser
    doses = ", ".join(percent(one.dose) for one in result.doses)
    return (
        f"<p><b class='pass'>{counts['pass']} passed</b>, <b class='fail'>{counts['fail']} failed</b>, "
        f"<b class='open'>{counts['not measurable']} not measurable</b> of {judged} limits. Limits are proposals that "
        "can be edited, no standard.</p>\n"
        f"<p>Denoiser: {escape(denoiser['name'])} {escape(denoiser['version'])}. Simulated scans of test objects at "
        f"{doses} of the dose: {phantom['pixels']:g} x {phantom['pixels']:g} pixels of {phantom['spacing_mm']:g} mm, "
        f"{phantom['realisations']:g} realisations of the noise each. No patient data.</p>"
    )


def _verdicts(result: QaResult) -> str:
    """One line for each quantity, one column for each dose."""
    doses = [one.dose for one in result.doses]
    rows: dict[tuple[str, str], dict[float | None, Verdict]] = {}
    order = list(result.limits)
    for verdict in sorted(result.verdicts, key=lambda one: order.index(one.limit)):
        rows.setdefault((verdict.quantity.partition(" (least")[0], verdict.allowed), {})[verdict.dose] = verdict
    heads = "".join(f"<th>{percent(dose)}</th>" for dose in doses)
    lines = []
    for (quantity, allowed), found in rows.items():
        if None in found:
            cells = _cell(found[None], span=len(doses))
        else:
            cells = "".join(_cell(found.get(dose)) for dose in doses)
        lines.append(f'<tr><th scope="row">{escape(quantity)}</th><td class="word">{allowed}</td>{cells}</tr>')
    return (
        '<section>\n<h2>Verdicts</h2>\n<div class="wide"><table id="verdicts"><thead><tr><th>Quantity</th>'
        f'<th class="word">Limit</th>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>\n'
        "<p>Grey numbers are measured and not judged: the limits file says from which dose on to judge. An empty "
        "cell: no noise need be removed at full dose.</p>\n</section>"
    )


def _cell(verdict: Verdict | None, span: int = 1) -> str:
    if verdict is None:
        return "<td></td>"
    kind, mark = MARKS[verdict.status]
    value = "" if math.isnan(verdict.value) else f"{_number(verdict.value)} "
    wide = f' colspan="{span}"' if span > 1 else ""
    return f'<td class="{kind}{" all" if span > 1 else ""}"{wide}>{value}{mark}</td>'


def _number(value: float, digits: int = 3) -> str:
    if not math.isfinite(value):
        return "&ndash;" if math.isnan(value) else "∞"
    text = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return text.replace("-", MINUS) if "e" not in text else "0" if abs(value) < 1e-3 else text


def _plots(title: str, plots: Iterable[str]) -> str:
    return f'<section>\n<h2>{title}</h2>\n<div class="plots">{"".join(plots)}</div>\n</section>'


def _planes(result: QaResult) -> str:
    """Two-dimensional spectra at the lowest dose: texture that has a direction shows here."""
    lowest = result.doses[-1]
    shown = (("Input", lowest.texture_before), ("Output", lowest.texture_after), ("Removed", lowest.texture_removed))
    figures = "".join(
        f'<figure><img src="{png_address(_relative(texture.plane_hu2_mm2), PLANE)}" alt="noise power, {label}">'
        f"<figcaption><b>{label}</b> {PLANE.name}</figcaption></figure>\n"
        for label, texture in shown
    )
    title = f"Noise power by direction at {percent(lowest.dose)} of the dose"
    return f'<section>\n<h2>{title}</h2>\n<div class="planes detail">{figures}</div>\n</section>'


def _relative(power: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (power / max(float(power.max()), 1e-9)).astype(np.float32)


def _slices(result: QaResult) -> str:
    """From slice to slice."""
    heads = "".join(f"<th>{percent(one.dose)}</th>" for one in result.doses)
    lines = []
    for name in result.doses[0].across:
        for title, value in (
            ("correlation of what was changed, neighbouring slices", "residual_correlation"),
            ("flicker: change from slice to slice, output over input", "flicker"),
        ):
            cells = "".join(f"<td>{_number(getattr(one.across[name], value))}</td>" for one in result.doses)
            lines.append(f'<tr><th scope="row">{told(name)}: {title}</th>{cells}</tr>')
    for name in result.doses[0].residual_edges:
        cells = "".join(f"<td>{_number(one.residual_edges[name])}</td>" for one in result.doses)
        lines.append(f'<tr><th scope="row">{told(name)}: edges in what was removed (0 none, 1 all)</th>{cells}</tr>')
    note = "Neighbours hold independent noise: what a denoiser does alike in them correlates, in anatomy edges, too."
    return _table("From slice to slice, and what was removed", f"<th></th>{heads}", lines, note)


def _rods(result: QaResult) -> str:
    """Bias against the truth at the lowest dose, rod by rod."""
    lowest = result.doses[-1]
    heads = (
        "Rod",
        "as the scanner shows it without noise, HU",
        "input minus that, HU",
        "output minus that, HU",
        "f50 without noise, 1/mm",
        "f50 input",
        "f50 output",
        "f10 without noise, 1/mm",
        "f10 output",
    )
    lines = []
    for rod in sorted(lowest.accuracy.inserts, key=lambda one: one.true_hu):
        values = (
            (rod.shown_hu, 4),
            (rod.before_hu - rod.shown_hu, 2),
            (rod.after_hu - rod.shown_hu, 2),
            (rod.f50_per_mm, 3),
            (rod.f50_before_per_mm, 3),
            (rod.f50_after_per_mm, 3),
            (rod.f10_per_mm, 3),
            (rod.f10_after_per_mm, 3),
        )
        cells = "".join(f"<td>{_number(value, digits)}</td>" for value, digits in values)
        lines.append(f'<tr><th scope="row">{escape(rod.name.replace("-", chr(0x2212)))}</th>{cells}</tr>')
    title = f"Rods at {percent(lowest.dose)} of the dose"
    note = "A dash: the edge does not stand out of the noise (CNR below 15), or f10 lies beyond what pixels can show."
    return _table(title, "".join(f"<th>{head}</th>" for head in heads), lines, note)


def _table(title: str, heads: str, lines: Iterable[str], note: str) -> str:
    return (
        f"<section>\n<h2>{title}</h2>\n"
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>\n'
        f"<p>{note}</p>\n</section>"
    )


def _pictures(result: QaResult, name: str) -> str:
    """One module at all doses: the lowest judged by limits open, the others to be opened."""
    pictures = [picture for picture in result.pictures if picture.module == name]
    shown = max(0, len(pictures) - 2)
    rows = [_picture(picture, opened=place == shown) for place, picture in enumerate(pictures)]
    return f"<section>\n<h2>Pictures: {told(name)}</h2>\n{''.join(rows)}</section>" if rows else ""


def _picture(picture: Picture, *, opened: bool) -> str:
    view = VIEWS[picture.module]
    shown = (
        ("Before", view, picture.before_hu),
        ("After", view, picture.after_hu),
        ("Truth, without noise", view, picture.truth_hu),
        ("Error that stays", ERROR, picture.error_hu),
    )
    figures = "".join(
        f'<figure><img loading="lazy" src="{png_address(image, window)}" alt="{told(picture.module)}: {label}">'
        f"<figcaption><b>{label}</b> {escape(window.name)}</figcaption></figure>\n"
        for label, window, image in shown
    )
    return (
        f"<details{' open' if opened else ''}><summary>{percent(picture.dose)} of the dose</summary>\n"
        f'<div class="pictures columns4">{figures}</div></details>\n'
    )


def _explained() -> str:
    how = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in MEASURED.items())
    without = "".join(f"<li>{escape(text)}</li>" for text in NOT_MEASURED)
    return (
        f'<section class="how">\n<h2>How it was measured</h2>\n<dl>{how}</dl>\n'
        f"<h2>What was not measured</h2>\n<ul>{without}</ul>\n</section>"
    )
