"""The page that shows an archive at a glance; one file, works offline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from data_prep.table import FIT, SeriesRow
from iscl_monai.durable import whole_file
from iscl_monai.report.page import NOT_GIVEN, page_html

MOST_ROWS = 2000
MOST_REASONS = 40
TITLE = "CT series of an archive"

STYLE = """<style>
main { max-width: none; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem 1rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--quiet); font-size: .875rem; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; margin: .25rem 0 1rem; }
.chips button { font: inherit; font-size: .875rem; color: inherit; cursor: pointer; border-radius: 99px;
  border: 1px solid var(--line); background: var(--card); padding: .2rem .75rem; }
.chips button[aria-pressed=true] { outline: 2px solid currentColor; }
.fit { --tint: #1a7f37; } .maybe { --tint: #9a6700; } .unfit { --tint: #cf222e; }
@media (prefers-color-scheme: dark) {
  .fit { --tint: #3fb950; } .maybe { --tint: #d29922; } .unfit { --tint: #f85149; } }
td.fit, td.maybe, td.unfit, button.fit, button.maybe, button.unfit { color: var(--tint); font-weight: 600; }
#series { font-size: .8rem; }
#series th, #series td { padding: .2rem .45rem; }
th.word { text-align: left; }
#series thead th { position: sticky; top: 0; cursor: pointer; user-select: none; z-index: 1; }
#series thead th[aria-sort=ascending]::after { content: " \\25B2"; font-size: .7em; }
#series thead th[aria-sort=descending]::after { content: " \\25BC"; font-size: .7em; }
#series img { width: 64px; height: 64px; object-fit: contain; }
#series .verdict { white-space: normal; min-width: 8rem; max-width: 13rem; text-align: left; }
#series .path { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; color: var(--quiet); text-align: left; }
td small { display: block; color: var(--quiet); }
</style>"""

SCRIPT = """<script>
const body = document.querySelector('#series tbody'), heads = [...document.querySelectorAll('#series thead th')];
heads.forEach((head, column) => head.onclick = () => {
  const down = head.getAttribute('aria-sort') === 'ascending';
  heads.forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const value = row => row.cells[column].dataset.v;
  const order = (a, b) => {
    const x = value(a), y = value(b);
    if (x === '' || y === '') return (x === '') - (y === '');  // what is not known goes last, both ways
    const way = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return down ? -way : way;
  };
  body.append(...[...body.rows].sort(order));
});
const chips = [...document.querySelectorAll('.chips button')];
chips.forEach(chip => chip.onclick = () => {
  const on = chip.getAttribute('aria-pressed') !== 'true';
  chips.forEach(other => other.setAttribute('aria-pressed', other === chip && on));
  for (const row of body.rows) row.hidden = on && row.dataset.group !== chip.dataset.group;
});
</script>"""


def group_of(verdict: str) -> str:
    """A verdict without its particulars, so that like ones are counted together: ``gap: 1 slice missing`` is a gap."""
    return verdict.split(":")[0].split(" (")[0]


def verdict_counts(rows: Sequence[SeriesRow]) -> list[tuple[str, int]]:
    """How many series have each kind of verdict: fit first, then the most frequent."""
    counts = Counter(group_of(row.verdict) for row in rows)
    return sorted(counts.items(), key=lambda item: (item[0] != FIT, -item[1], item[0]))


def reason_counts(skipped: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """How many files were skipped for each reason, most frequent first."""
    return sorted(Counter(reason for _, reason in skipped).items(), key=lambda item: (-item[1], item[0]))


def write_page(
    path: Path,
    archive: Path,
    rows: Sequence[SeriesRow],
    thumbnails: Sequence[str],
    skipped: Sequence[tuple[str, str]],
    files: int,
) -> Path:
    """Write the page; it appears whole or not at all.

    Args:
        path: the file to write.
        archive: the folder that was scanned; paths are shown from there on.
        rows: of the table.
        thumbnails: a PNG in base 64 for each row, or ``""``.
        skipped: path and reason of the other files.
        files: how many there are in all.

    Returns:
        ``path``.
    """
    body = (
        STYLE,
        f"<h1>{TITLE}</h1>",
        f"<p>{escape(str(archive).encode('utf-8', 'backslashreplace').decode())}</p>",
        _tiles(rows, len(skipped), files),
        _chips(rows),
        _table(rows, thumbnails, archive),
        _skipped(skipped),
        SCRIPT,
    )
    with whole_file(path) as file:
        file.write(page_html(TITLE, "\n".join(filter(None, body))).encode("utf-8", "backslashreplace"))
    return path


def _table(rows: Sequence[SeriesRow], thumbnails: Sequence[str], archive: Path) -> str:
    shown = list(zip(rows, thumbnails, strict=True))[:MOST_ROWS]
    rest = f"<p>The first {MOST_ROWS} of {len(rows)}; series.csv holds all.</p>" if len(rows) > MOST_ROWS else ""
    heads = "".join(
        f'<th class="{"word" if name in WORDS else ""}" title="{escape(hint)}">{escape(name)}</th>'
        for name, hint, _, _ in COLUMNS
    )
    heads += '<th class="word">folder</th>'
    lines = "\n".join(_line(row, picture, archive) for row, picture in shown)
    table = f'<table id="series"><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>'
    return f'{rest}<div class="wide">{table}</div>'


def _tiles(rows: Sequence[SeriesRow], skipped: int, files: int) -> str:
    fit = [row for row in rows if row.fit]
    patients = {row.patient for row in fit} - {""}
    nameless = sum(not row.patient for row in fit)
    told = [
        (len(fit), f"of {len(rows)} series are fit for training"),
        (sum(row.slices for row in fit), "slices in them"),
        (len(patients), "patients" + (f", and {nameless} series without Patient ID" if nameless else "")),
        (files - skipped, f"of {files} files belong to a series"),
        (skipped, "files were skipped"),
    ]
    tiles = "".join(f'<div class="tile"><b>{number:,}</b><span>{text}</span></div>' for number, text in told)
    return f'<div class="tiles">{tiles}</div>'


def _chips(rows: Sequence[SeriesRow]) -> str:
    buttons = "".join(
        f'<button class="{_colour(group)}" aria-pressed="false" data-group="{escape(group)}">{escape(group)} '
        f"&middot; {count}</button>"
        for group, count in verdict_counts(rows)
    )
    return f'<div class="chips">{buttons}</div>'


def _colour(verdict: str) -> str:
    return {FIT: "fit", "single slice": "maybe"}.get(verdict, "unfit")


def _skipped(skipped: Sequence[tuple[str, str]]) -> str:
    if not skipped:
        return ""
    reasons = reason_counts(skipped)
    lines = "".join(
        f'<tr><td>{count:,}</td><td class="word long">{escape(reason)}</td></tr>'
        for reason, count in reasons[:MOST_REASONS]
    )
    more = f"<p>And {len(reasons) - MOST_REASONS} more reasons.</p>" if len(reasons) > MOST_REASONS else ""
    return (
        "<section><h2>Skipped files</h2><p>Each one is listed in skipped.csv.</p><table><thead><tr><th>Files</th>"
        f'<th class="word">Reason</th></tr></thead><tbody>{lines}</tbody></table>{more}</section>'
    )


def _line(row: SeriesRow, picture: str, archive: Path) -> str:
    image = f'<img alt="" src="data:image/png;base64,{picture}">' if picture else ""
    cells = [f'<td data-v="{row.z_lowest_mm if row.z_lowest_mm is not None else ""}">{image}</td>']
    for name, _, value, more in COLUMNS[1:]:
        found = value(row)
        text = _number(found) if isinstance(found, float) else escape(str(found))
        kind = f"verdict {_colour(group_of(row.verdict))}" if name == "verdict" else ""
        kind = kind or ("word" if name in WORDS else "")
        small = escape(more(row))
        plain = "" if found is None else escape(str(found))
        shown = NOT_GIVEN if found in (None, "", "unknown") else text
        cells.append(f'<td class="{kind}" data-v="{plain}">{shown}{f"<small>{small}</small>" if small else ""}</td>')
    below = escape(_below(row.path, archive))
    cells.append(f'<td class="path" data-v="{below}">{below}</td>')
    return f'<tr data-group="{escape(group_of(row.verdict))}">{"".join(cells)}</tr>'


def _below(path: str, archive: Path) -> str:
    return path.removeprefix(str(archive)).lstrip("/\\") or "."


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _nothing(row: SeriesRow) -> str:
    return ""


def _tilt(row: SeriesRow) -> str:
    return f"tilt {row.tilt_deg:.1f}°" if row.tilt_deg is not None and row.tilt_deg >= 1 else ""


def _thickness(row: SeriesRow) -> str:
    return f"{row.slice_thickness_mm:.3g} mm thick" if row.slice_thickness_mm else ""


def _size(row: SeriesRow) -> str:
    return f"{row.rows} x {row.columns}"


def _dose(row: SeriesRow) -> str:
    return f"{row.dose_fraction:g} of the original" if row.dose_fraction < 1 else ""


WORDS = frozenset(("verdict", "geometry", "kernel", "scanner", "dose", "body part", "patient"))
Cell = Callable[[SeriesRow], object]
Small = Callable[[SeriesRow], str]
COLUMNS: tuple[tuple[str, str, Cell, Small], ...] = (
    ("", "middle slice, -160 to 240 HU", _nothing, _nothing),
    ("verdict", "fit for training, or why not", lambda row: row.verdict, _nothing),
    ("geometry", "where the slices lie", lambda row: row.geometry, _tilt),
    ("slices", "how many", lambda row: row.slices, _nothing),
    ("step mm", "usual distance of slices", lambda row: row.slice_step_mm, _thickness),
    ("pixel mm", "distance of pixels", lambda row: row.pixel_spacing_mm, _size),
    ("field mm", "field of view", lambda row: row.field_of_view_mm, _nothing),
    ("noise HU", "in the quietest soft tissue of a few slices", lambda row: row.noise_hu, _nothing),
    ("peak /mm", "where the noise power spectrum is highest", lambda row: row.noise_peak_per_mm, _nothing),
    ("kernel", "ConvolutionKernel", lambda row: row.kernel, _nothing),
    ("scanner", "model and maker", lambda row: row.model, lambda row: row.manufacturer),
    ("kV", "KVP", lambda row: row.kvp, _nothing),
    ("mAs", "tube current times exposure time", lambda row: row.mas, _nothing),
    ("CTDIvol mGy", "mean over slices", lambda row: row.ctdi_vol_mgy, _nothing),
    ("dose", "low or full where something says so", lambda row: row.dose_class, _dose),
    ("body part", "", lambda row: row.body_part, lambda row: "contrast agent" if row.contrast else ""),
    ("patient", "", lambda row: row.patient, _nothing),
)
