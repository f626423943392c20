"""Who is logged in, in a signed cookie; the key is a file of the data folder."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer
from sqlalchemy import select

from iscl_monai.service.database.store import Store, now
from iscl_monai.service.database.tables import ended_sessions
from iscl_monai.service.key_file import read_or_make_key
from iscl_monai.service.web import accounts

KEY_FILE = "session.key"
COOKIE = "iscl_session"
FROM_PROVIDER = "oidc:"  # begins the names of people who log in by an identity provider


@dataclass(frozen=True)
class Person:
    """Somebody who is logged in.

    Args:
        name: of a local user, or :data:`FROM_PROVIDER` and the name there.
        role: see :data:`iscl_monai.service.web.accounts.ROLES`.
        session: random name of the session.
        csrf: token that a form of this session must bear.
    """

    name: str
    role: str
    session: str
    csrf: str

    def may(self, role: str) -> bool:
        """Whether the role is enough for what needs ``role``."""
        return accounts.ROLES.index(self.role) >= accounts.ROLES.index(role)


def session_key(data: Path) -> bytes:
    """The node's key; made at the first start, and readable for its user alone.

    Raises:
        ConfigRefusal: the file is not ours alone, or not whole.
    """
    return read_or_make_key(data / KEY_FILE, "everybody then has to log in again")


class Sessions:
    """Makes and reads session cookies.

    Args:
        store: the database.
        key: see :func:`session_key`.
        hours: after which one logs in again.
    """

    def __init__(self, store: Store, key: bytes, hours: float) -> None:
        self.store = store
        self.seconds = int(hours * 3600)
        self._signer = URLSafeTimedSerializer(key, salt="session", signer_kwargs={"digest_method": hashlib.sha256})
        self._csrf_key = hmac.digest(key, b"csrf", "sha256")
        self._ended = set(store.values(select(ended_sessions.c.session)))
        self._lock = threading.Lock()

    def begin(self, name: str, role: str, since: str = "") -> str:
        """The cookie of a new session.

        Args:
            name: of the person.
            role: counts for people from an identity provider; local users have the role of their row.
            since: of the local user's row.
        """
        content = {"name": name, "role": role, "since": since, "session": secrets.token_urlsafe(16)}
        return str(self._signer.dumps(content))

    def person(self, cookie: str) -> Person | None:
        """Whose session it is; None when the cookie is not ours, or the session has ended."""
        try:
            content: Mapping[str, Any] = self._signer.loads(cookie, max_age=self.seconds)
        except BadData:
            return None
        with self._lock:
            if content["session"] in self._ended:
                return None
        role = str(content["role"])
        if not content["name"].startswith(FROM_PROVIDER):
            user = accounts.find(self.store, content["name"])
            if user is None or user.sessions_since != content["since"]:
                return None
            role = user.role
        return Person(content["name"], role, content["session"], self._csrf_token(content["session"]))

    def end(self, person: Person) -> None:
        """End a session, also for anybody who has copied its cookie, and after a restart.

        Raises:
            StoreUnavailable: it has ended, and a restart would bring it back to life.
        """
        with self._lock:
            self._ended.add(person.session)
        invalid = datetime.now(timezone.utc) - timedelta(seconds=self.seconds)  # by themselves: too old
        old = ended_sessions.c.ended_at < invalid.isoformat(timespec="milliseconds")
        with self.store.writing() as change:
            change.execute(ended_sessions.delete().where(old | (ended_sessions.c.session == person.session)))
            change.execute(ended_sessions.insert().values(session=person.session, ended_at=now()))

    def _csrf_token(self, session: str) -> str:
        return hmac.new(self._csrf_key, session.encode(), hashlib.sha256).hexdigest()
