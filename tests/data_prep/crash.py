"""A task that ends its process; by itself, so that a new process has little to import."""

from __future__ import annotations

import os


def halve_or_die(number: int) -> int:
    if number == 7:
        os._exit(1)
    return number // 2
