"""A receiver as a process of its own: prints its peak memory when it listens, and again when standard input ends."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from service.receiving import receiving

from iscl_monai.service import log
from iscl_monai.service.settings import Settings


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    log.set_up("CRITICAL")
    settings = Settings.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with receiving(settings) as door:
        assert door.echo() == 0
        print(peak_bytes(), flush=True)
        sys.stdin.read()
        print(peak_bytes(), len(door.rows()), flush=True)


if __name__ == "__main__":
    main()
