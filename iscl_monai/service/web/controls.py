"""What people may set going in the running node from its pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from iscl_monai.service.reload import SettingsReload
from iscl_monai.service.sending.echoes import PeerEcho


def _nothing(name: str) -> None:
    """There is no running node behind these pages."""


@dataclass(frozen=True)
class Controls:
    """Parts of the running node that pages act upon.

    Args:
        echoes: by peer: whether it answers.
        destination_changed: called with the name of a destination that was paused or resumed.
        reload: reads the settings file anew; None if the node knows none.
    """

    echoes: Mapping[str, PeerEcho] = field(default_factory=dict)
    destination_changed: Callable[[str], None] = _nothing
    reload: SettingsReload | None = None
