"""``iscl-monai batch``: an archive into a folder of results, whatever happens meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from iscl_monai.batch.archive import Archive, archive_of
from iscl_monai.batch.ledger import FILE, Ledger
from iscl_monai.batch.pool import Pool
from iscl_monai.batch.run import RESULTS, TRIES, Event, Run
from iscl_monai.batch.summary import Summary, ThisRun, summarise, write_summary
from iscl_monai.batch.worker import Settings
from iscl_monai.durable import check_free
from iscl_monai.errors import DicomRefusal, Refusal
from iscl_monai.inference.places import check_places
from iscl_monai.released import weights_in

MakePool = Callable[[Settings, Path, Path], Pool]


def denoise_archive(
    source: Path,
    out: Path,
    *,
    settings: Settings,
    make_pool: MakePool,
    tries: int = TRIES,
    retry_refused: bool = False,
    watch: Callable[[Event], object] = lambda event: None,
) -> Summary:
    """Denoise every original axial CT series of an archive; what an earlier run finished is not done again.

    Each series becomes what ``iscl-monai denoise`` makes of it, bit for bit but for the time that it bears, in a folder
    of its own below ``out/series``, which appears whole or not at all.

    Args:
        source: see :func:`iscl_monai.batch.archive.archive_of`.
        out: folder of results, absent, empty, or of an earlier run of the same archive and settings.
        settings: what series are denoised with.
        make_pool: makes the workers of settings, folder of the archive and folder of results.
        tries: attempts at a series that ends its worker, or fails in another way that may pass.
        retry_refused: whether to try again what an earlier run refused.
        watch: is shown every event.

    Returns:
        What became of all series, as it stands in ``out``, too.

    Raises:
        Refusal: what an archive cannot be begun or gone on with: settings, places, a full disk, no worker. What was
            finished is kept, and the same command goes on.
    """
    archive, out = archive_of(source), Path(out).absolute()
    check_out(archive, out)
    weights_in(settings.bundle, settings.weights)  # before workers are started for it
    (out / RESULTS).mkdir(parents=True, exist_ok=True)
    ledger = Ledger(out)
    try:
        pool = make_pool(settings, archive.root, out)
        return _with_ledger(archive, out, settings, ledger, pool, tries, retry_refused, watch)
    finally:
        ledger.close()


def _with_ledger(
    archive: Archive,
    out: Path,
    settings: Settings,
    ledger: Ledger,
    pool: Pool,
    tries: int,
    retry_refused: bool,
    watch: Callable[[Event], object],
) -> Summary:
    began = time.monotonic()
    try:
        described = pool.start()
        made_with = {"SOURCE": str(archive.source), **described[0].settings}
        ledger.check_settings(made_with)
    except BaseException:
        pool.close()
        raise
    if retry_refused:
        ledger.forget_refusals()
    run = Run(archive, out, ledger=ledger, pool=pool, tries=tries, watch=watch)

    def told(stopped: str = "") -> Summary:
        this = ThisRun(workers=len(described), wall_s=time.monotonic() - began, deaths=run.deaths, stopped=stopped)
        summary = summarise(ledger, set(run.units), settings=made_with, run=this)
        write_summary(summary, out)
        return summary

    try:
        run.everything()
    except Refusal as refusal:
        _try_to_tell(told, str(refusal))
        raise
    summary = told()
    if not summary.series:
        raise _nothing(archive, summary)
    return summary


def _try_to_tell(told: Callable[[str], Summary], reason: str) -> None:
    """On a full disk the page may find no room; the refusal says the same."""
    with suppress(OSError, Refusal):
        told(reason)


def check_out(archive: Archive, out: Path) -> None:
    """Refuse a folder of results that lies in the archive, or is taken by something else."""
    check_places(archive.root, out)
    if not (out / FILE).is_file():
        check_free(out)


def _nothing(archive: Archive, summary: Summary) -> DicomRefusal:
    reasons = ", ".join(f"{count} x {reason}" for reason, count in summary.skipped_files.items())
    return DicomRefusal(
        archive.source,
        tag="SeriesInstanceUID",
        found=f"of no original axial CT series (skipped: {reasons or 'no files at all'})",
        needed="at least one original axial CT series in Hounsfield units",
        cure="give the folder that holds the CT slices",
    )
