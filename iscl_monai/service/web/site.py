"""What all pages share: the node's parts, templates, and how things are shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.responses import HTMLResponse

from iscl_monai.dicom.derivation import DISCLAIMER
from iscl_monai.service.database.store import Store
from iscl_monai.service.receiving.intake import Intake
from iscl_monai.service.settings import Settings
from iscl_monai.service.web.sessions import Person, Sessions
from iscl_monai.service.web.throttle import Throttle
from iscl_monai.version import __version__

HERE = Path(__file__).parent
STATIC = HERE / "static"
PAGE_ROWS = 50

Health = Callable[[], Mapping[str, tuple[bool, str]]]

STATE_KINDS = {  # how a state is coloured; its word is always there too
    "receiving": "busy",
    "settled": "quiet",
    "queued": "quiet",
    "running": "busy",
    "sending": "busy",
    "refused": "warn",
    "failed": "bad",
    "cancelled": "quiet",
    "superseded": "quiet",
    "done": "good",
    "waiting": "quiet",
    "sent": "busy",
    "asked": "busy",
    "confirmed": "good",
    "unsuitable": "warn",
    "offered": "quiet",
    "busy": "warn",
    "left alone": "quiet",
}


@dataclass(frozen=True)
class Site:
    """The parts that pages need.

    Args:
        settings: of the node.
        store: the database.
        intake: takes objects.
        health: of the parts of the node: whether each lives, and a word about it.
        sessions: who is logged in.
        throttle: of logins.
    """

    settings: Settings
    store: Store
    intake: Intake
    health: Health
    sessions: Sessions
    throttle: Throttle

    @property
    def secure(self) -> bool:
        """Whether browsers come by HTTPS."""
        return self.settings.web.certificate is not None or self.settings.web.behind_proxy


def site_of(request: Request) -> Site:
    """The site that answers a request."""
    site: Site = request.app.state.site
    return site


def caller(request: Request) -> str:
    """Address of who asks; behind a proxy the one that the proxy added, for those before it may be invented."""
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))  # a proxy may add a line of its own
    if site_of(request).settings.web.behind_proxy and forwarded:
        return forwarded.rsplit(",", 1)[-1].strip()[:64]
    return request.client.host if request.client else ""


def page(request: Request, template: str, person: Person | None, *, status: int = 200, **told: Any) -> HTMLResponse:
    """A page, or a part of one.

    Args:
        request: that it answers.
        template: file name below ``templates``.
        person: who is logged in; None for nobody.
        status: of the answer.
        told: variables of the template.
    """
    variables = {"me": person, "path": request.url.path, **told}
    return HTMLResponse(_templates.get_template(template).render(variables), status_code=status)


def is_part(request: Request) -> bool:
    """Whether only a part of a page is asked for, by the script of our pages."""
    return request.headers.get("hx-request") == "true"


def page_number(request: Request) -> int:
    """Which page of a long list is asked for, from 1."""
    told = request.query_params.get("page", "1")
    return max(1, min(int(told), 10**6)) if told.isascii() and told.isdigit() and len(told) < 8 else 1


def _moment(text: str | None) -> Markup:
    """A time of the database, as UTC."""
    if not text:
        return Markup("&ndash;")
    try:
        moment = datetime.fromisoformat(text).astimezone(timezone.utc)
    except ValueError:
        return Markup("{}").format(text)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        moment.isoformat(), moment.strftime("%A %d %B %Y %H:%M:%S"), moment.strftime("%Y-%m-%d %H:%M:%S")
    )


def _state(name: str) -> Markup:
    """A state as a coloured word."""
    return Markup('<span class="state {}">{}</span>').format(STATE_KINDS.get(name, "quiet"), name)


def _number(value: Any, digits: int = 1) -> str:
    if not isinstance(value, (int, float)) or value != value:
        return "\N{EN DASH}"
    value = round(value, digits) + 0.0  # no minus zero
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _asset(name: str) -> str:
    """The address of a static file, which changes when its content does."""
    return f"/static/{name}?v={_digests[name]}"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(moment=_moment, state=_state, number=_number)
    made.globals.update(disclaimer=DISCLAIMER, version=__version__, asset=_asset)
    return made


_digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in STATIC.iterdir()}
_templates = _environment()
