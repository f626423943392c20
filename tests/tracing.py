"""Coverage's tracer, stopped where it would only see again what other tests run: it takes a third of the time there."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from coverage import Coverage


@contextmanager
def untraced() -> Iterator[None]:
    """Neither this process nor a program that it starts meanwhile is traced."""
    tracer = Coverage.current()
    if tracer is not None:
        tracer.stop()
    try:
        with untraced_programs():
            yield
    finally:
        if tracer is not None:
            tracer._warn_preimported_source = False  # it would look for ours among all that is imported
            tracer.start()


@contextmanager
def untraced_programs() -> Iterator[None]:
    """No program that this process starts meanwhile is traced; with a tracer MONAI takes twice as long to import."""
    settings = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("COVERAGE_PROCESS")}
    try:
        yield
    finally:
        os.environ.update(settings)


def stop_tracing() -> None:
    """Trace this process, a fork, no more: it will be killed, and could not save what was seen."""
    tracer = Coverage.current()
    if tracer is not None:
        tracer.stop()


if "PYTEST_XDIST_WORKER" in os.environ and Coverage.current() is not None:  # it needs them all, sooner or later
    with untraced():
        for package in ("pydicom", "scipy.ndimage", "monai.bundle", "ignite.engine"):
            importlib.import_module(package)
