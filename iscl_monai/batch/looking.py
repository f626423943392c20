"""Every folder of an archive is looked at by the workers, and those that share a series become one unit."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from iscl_monai.batch.archive import Archive
from iscl_monai.batch.ledger import Ledger
from iscl_monai.batch.pool import Answer, Call, Pool, drive
from iscl_monai.batch.units import Folder, Unit, units_of
from iscl_monai.errors import Refusal

AT_ONCE = 500
"""Folders of which the ledger is told in one go: what a killed run looks at again at most."""


def look_through(
    archive: Archive, *, ledger: Ledger, pool: Pool, tries: int, looked: Callable[[], object]
) -> list[Unit]:
    """Look at every folder that is not as the ledger knows it.

    Args:
        archive: what is read.
        ledger: keeps what was seen.
        pool: started.
        tries: at a folder.
        looked: called after each folder.

    Returns:
        The units, in an order that is the same everywhere.

    Raises:
        Refusal: a folder that cannot be opened, or whose files end every worker that reads them.
    """
    looking = _Looking(archive, ledger, tries, looked)
    drive(pool, next_call=looking.next_call, finish=looking.finish, has_more=lambda: looking.coming is not None)
    ledger.flush()
    return units_of(looking.folders)


class _Looking:
    def __init__(self, archive: Archive, ledger: Ledger, tries: int, looked: Callable[[], object]) -> None:
        self.ledger, self.tries, self.looked = ledger, tries, looked
        self.folders: list[Folder] = []
        self._paths = archive.folders()
        self._again: deque[Path] = deque()
        self._failed: Counter[Path] = Counter()
        self.coming = next(self._paths, None)

    def next_call(self) -> Call | None:
        if self.coming is None:
            return None
        path = self.coming
        self._advance()
        return Call("look", (path, self.ledger.folder(path)), path)

    def _advance(self) -> None:
        self.coming = self._again.popleft() if self._again else next(self._paths, None)

    def finish(self, answer: Answer) -> None:
        path = answer.call.subject
        if not answer.failure:
            self.ledger.keep_folder(answer.value)
            self.folders.append(answer.value)
            if len(self.folders) % AT_ONCE == 0:
                self.ledger.flush()
            self.looked()
            return
        self._failed[path] += 1
        if self._failed[path] >= self.tries:
            raise Refusal(
                f"{path}: its files could not be looked at in {self.tries} tries ({answer.failure})",
                allowed="files that can be read, or plainly cannot",
                cure="take the folder out of SOURCE, and report this",
            )
        self._again.append(path)
        if self.coming is None:
            self._advance()
