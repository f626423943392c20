"""One line of JSON per event, on standard output; identifiers, states and counts only, nothing about a patient."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import structlog

# UIDs can be traced to a patient only with the PACS; names, birth dates and descriptions by anybody.
NEVER_LOGGED = ("patient", "name_of", "birth", "description")

log: Any = structlog.get_logger("iscl_monai")


def set_up(level: str = "INFO") -> None:
    """Have everything, other libraries' messages too, written as JSON lines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_patients,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries log data sets at lower levels
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote odd values, names too,
    warnings.simplefilter("ignore")  # and come a second time as warnings


def _without_patients(_: Any, __: str, event: Any) -> Any:
    for key in [key for key in event if any(word in key.lower() for word in NEVER_LOGGED)]:
        del event[key]
    return event
