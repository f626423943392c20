"""Local users: a name, a role, and the argon2 digest of a password."""

from __future__ import annotations

import re
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select, update

from iscl_monai.errors import ConfigRefusal, NotAllowedNow
from iscl_monai.service.database.store import Change, Store, now
from iscl_monai.service.database.tables import users

ROLES = ("viewer", "operator", "admin")  # each may do what those before it may
NAME = r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}[A-Za-z0-9]"  # no colon: that marks names from an identity provider
SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 1024

_hasher = PasswordHasher()
# Verified for unknown users: they take the time that known ones take, so that time does not show who exists.
_DUMMY_DIGEST = _hasher.hash("nobody")


@dataclass(frozen=True)
class User:
    """A row of ``users``, without its password.

    Args:
        name: unique.
        role: one of :data:`ROLES`.
        created_at: UTC.
        sessions_since: sessions that bear another value are not valid any more.
    """

    name: str
    role: str
    created_at: str
    sessions_since: str


_COLUMNS = select(users.c.name, users.c.role, users.c.created_at, users.c.sessions_since)


def find(store: Store, name: str) -> User | None:
    """The user of that name."""
    found = store.read(User, _COLUMNS.where(users.c.name == name))
    return found[0] if found else None


def all_users(store: Store) -> list[User]:
    """All of them, by name."""
    return store.read(User, _COLUMNS.order_by(users.c.name))


def verify(store: Store, name: str, password: str) -> User | None:
    """The user, if that is the password; takes the same time whether or not there is such a user."""
    found = store.values(select(users.c.password).where(users.c.name == name))
    digest = str(found[0]) if found else _DUMMY_DIGEST
    try:
        fits = _hasher.verify(digest, password[:LONGEST_PASSWORD])
    except (VerificationError, InvalidHashError):
        return None
    return find(store, name) if fits and found else None


def add_user(store: Store, name: str, password: str, role: str, *, actor: str = "command line") -> None:
    """Add a user who may log in from now on.

    Args:
        store: the database.
        name: 2 to 64 letters, digits and ``_.@-``; begins and ends with a letter or digit.
        password: at least 12 characters.
        role: ``viewer``, ``operator`` or ``admin``.
        actor: who does this, for the audit log.

    Raises:
        ConfigRefusal: the name is taken or has another form, the password is too short or long, no such role.
        StoreUnavailable: the database cannot be written.
    """
    _check_role(role)
    if not re.fullmatch(NAME, name, re.ASCII):
        raise ConfigRefusal(
            f"user name {name[:70]!r}",
            allowed="2 to 64 of A-Z a-z 0-9 _ . @ -, the first and last a letter or digit",
            cure="choose another name",
        )
    digest = _digest(password)
    with store.writing() as change:
        if change.execute(select(users.c.name).where(func.lower(users.c.name) == name.lower())).first():
            raise ConfigRefusal(
                f"there is a user {name} already", allowed="a name that is free", cure="choose another, or remove it"
            )
        moment = now()
        change.execute(
            users.insert().values(name=name, password=digest, role=role, created_at=moment, sessions_since=moment)
        )
        change.note(actor, "add user", name, role)


def set_password(store: Store, name: str, password: str, *, actor: str) -> None:
    """Give a user another password; all sessions of the user end.

    Raises:
        ConfigRefusal: there is no such user, or the password is too short or long.
        StoreUnavailable: the database cannot be written.
    """
    digest = _digest(password)
    with store.writing() as change:
        _current_role(change, name)
        change.execute(update(users).where(users.c.name == name).values(password=digest, sessions_since=now()))
        change.note(actor, "set password", name)


def set_role(store: Store, name: str, role: str, *, actor: str) -> None:
    """Give a user another role; all sessions of the user end.

    Raises:
        ConfigRefusal: there is no such user or role.
        NotAllowedNow: it is the last admin.
        StoreUnavailable: the database cannot be written.
    """
    _check_role(role)
    with store.writing() as change:
        before = _current_role(change, name)
        if role != "admin":
            _check_not_last(change, name, before)
        change.execute(update(users).where(users.c.name == name).values(role=role, sessions_since=now()))
        change.note(actor, "set role", name, f"{before} -> {role}")


def remove_user(store: Store, name: str, *, actor: str) -> None:
    """Remove a user; all sessions of the user end.

    Raises:
        ConfigRefusal: there is no such user.
        NotAllowedNow: it is the last admin.
        StoreUnavailable: the database cannot be written.
    """
    with store.writing() as change:
        before = _current_role(change, name)
        _check_not_last(change, name, before)
        change.execute(delete(users).where(users.c.name == name))
        change.note(actor, "remove user", name, before)


def _digest(password: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ConfigRefusal(
            f"a password of {len(password)} characters",
            allowed=f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD}",
            cure="choose a longer one, such as four words",
        )
    return _hasher.hash(password)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise ConfigRefusal(f"role {role[:70]!r}", allowed=", ".join(ROLES), cure="give one of these")


def _current_role(change: Change, name: str) -> str:
    role = change.execute(select(users.c.role).where(users.c.name == name)).scalar_one_or_none()
    if role is None:
        raise ConfigRefusal(f"user {name[:70]!r}", allowed="a user that exists", cure="look at the list")
    return str(role)


def _check_not_last(change: Change, name: str, role: str) -> None:
    """Refuse to lose the last admin: nobody could add users any more."""
    others = select(func.count()).select_from(users).where((users.c.role == "admin") & (users.c.name != name))
    if role == "admin" and not change.execute(others).scalar_one():
        raise NotAllowedNow(f"{name} is the last admin", allowed="one admin at least", cure="add another admin before")
