"""Rules read anew while the node runs: checked first, shown, and used all at once or not at all."""

from __future__ import annotations

import difflib
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iscl_monai.errors import ConfigRefusal, NotAllowedNow, Refusal
from iscl_monai.service.database.store import Store
from iscl_monai.service.log import log
from iscl_monai.service.settings import Settings
from iscl_monai.service.settings_description import describe_rules
from iscl_monai.service.settings_file import parse_settings, read_text

BY_SIGNAL = "signal"


@dataclass(frozen=True)
class Preview:
    """What the file says now.

    Args:
        settings: of the file.
        digest: of the file, by which it is recognised when it is used.
        differences: lines that go (``-``) and come (``+``), in words; none if nothing changes.
    """

    settings: Settings
    digest: str
    differences: tuple[str, ...]


class SettingsReload:
    """Reads the settings file anew; other changes than those of rules need a restart, and are refused.

    Args:
        path: of the file.
        settings: that the node runs with.
        store: the database, for the audit log.
        use: called with new settings.
    """

    def __init__(self, path: Path, settings: Settings, store: Store, use: Callable[[Settings], None]) -> None:
        self.path = path
        self.settings = settings
        self.store = store
        self.use = use
        self._lock = threading.Lock()

    def preview(self) -> Preview:
        """Read and check the file; nothing changes.

        Raises:
            ConfigRefusal: it is wrong, or more than rules has changed.
        """
        text = read_text(self.path)
        new = parse_settings(text, self.path)
        others = [
            name
            for name in Settings.model_fields
            if name != "rules" and getattr(new, name) != getattr(self.settings, name)
        ]
        if others:
            raise ConfigRefusal(
                f"{self.path}: {', '.join(others)} changed, too",
                allowed="changes of rules while the node runs",
                cure="start the node again",
            )
        lines = difflib.ndiff(list(describe_rules(self.settings)), list(describe_rules(new)))
        differences = tuple(line for line in lines if line.startswith(("+ ", "- ")))
        return Preview(new, hashlib.sha256(text.encode()).hexdigest(), differences)

    def reload(self, actor: str, expected_digest: str | None = None) -> Preview:
        """Use the rules of the file from now on; jobs that have been made keep the rule that made them.

        Args:
            actor: who wants that, for the audit log.
            expected_digest: of the file that was looked at; None: whatever it is now.

        Raises:
            ConfigRefusal: see :meth:`preview`; the old rules stay.
            NotAllowedNow: the file is another one than was looked at.
            StoreUnavailable: it cannot be written into the audit log; the old rules stay.
        """
        with self._lock:
            found = self.preview()
            if expected_digest is not None and found.digest != expected_digest:
                raise NotAllowedNow(
                    f"{self.path} has changed since it was checked",
                    allowed="the file that was shown",
                    cure="check again",
                )
            with self.store.writing() as change:
                change.note(actor, "reload rules", str(self.path), "\n".join(found.differences))
            self.use(found.settings)
            self.settings = found.settings
        log.info("rules.reloaded", rules=len(found.settings.rules), changes=len(found.differences))
        return found

    def reload_by_signal(self) -> None:
        """The same, on SIGHUP: what is wrong stands in the log, and the old rules stay."""
        try:
            self.reload(BY_SIGNAL)
        except Refusal as refusal:
            log.error("rules.not_reloaded", refusal=str(refusal))
