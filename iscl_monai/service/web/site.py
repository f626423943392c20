"""What all pages share: the node's parts, templates, and how things are shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.responses import HTMLResponse

from iscl_monai.dicom.derivation import DISCLAIMER
from iscl_monai.service.database.states import DeliveryState, JobState, SeriesState
from iscl_monai.service.database.store import Store
from iscl_monai.service.receiving.intake import Intake
from iscl_monai.service.receiving.limits import RepeatFilter
from iscl_monai.service.search_keys import SearchKeys
from iscl_monai.service.settings import Settings
from iscl_monai.service.web.controls import Controls
from iscl_monai.service.web.counts import Counts
from iscl_monai.service.web.sessions import Person, Sessions
from iscl_monai.service.web.throttle import Throttle
from iscl_monai.version import __version__

HERE = Path(__file__).parent
STATIC = HERE / "static"
PAGE_ROWS = 50

Health = Callable[[], Mapping[str, tuple[bool, str]]]
Counted = Callable[[], Counts]

STATE_KINDS: Mapping[str, str] = {  # how a state is coloured; the page shows its word too
    SeriesState.RECEIVING: "busy",
    SeriesState.SETTLED: "quiet",
    JobState.QUEUED: "quiet",
    JobState.RUNNING: "busy",
    JobState.HELD: "warn",
    JobState.SENDING: "busy",
    JobState.REFUSED: "warn",
    JobState.FAILED: "bad",
    JobState.CANCELLED: "quiet",
    JobState.SUPERSEDED: "quiet",
    JobState.DONE: "good",
    DeliveryState.WAITING: "quiet",
    DeliveryState.SENT: "busy",
    DeliveryState.ASKED: "busy",
    DeliveryState.CONFIRMED: "good",
    "unsuitable": "warn",
    "offered": "quiet",
    "busy": "warn",
    "left alone": "quiet",
    "answers": "good",
    "no answer": "bad",
    "paused": "warn",
}


@dataclass(frozen=True)
class Site:
    """The parts that pages need.

    Args:
        settings: of the node.
        store: the database.
        intake: takes objects.
        health: of the parts of the node: whether each is alive, and a description.
        counts: of faults since the start.
        controls: what people may set going in the running node.
        sessions: who is logged in.
        throttle: of logins.
        search_keys: digests that series are searched by.
        failed_logins: which of these are written into the audit log.
    """

    settings: Settings
    store: Store
    intake: Intake
    health: Health
    counts: Counted
    controls: Controls
    sessions: Sessions
    throttle: Throttle
    search_keys: SearchKeys
    failed_logins: RepeatFilter = field(default_factory=RepeatFilter)

    @property
    def secure(self) -> bool:
        """Whether browsers come by HTTPS."""
        return self.settings.web.certificate is not None or self.settings.web.behind_proxy


def site_of(request: Request) -> Site:
    """The site that answers a request."""
    site: Site = request.app.state.site
    return site


def client_address(request: Request) -> str:
    """Address of the client; behind a proxy the one that the proxy added, for those before it may be forged."""
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))  # a proxy may add a line of its own
    if site_of(request).settings.web.behind_proxy and forwarded:
        return forwarded.rsplit(",", 1)[-1].strip()[:64]
    return request.client.host if request.client else ""


def page(
    request: Request, template: str, person: Person | None, *, status: int = 200, **variables: Any
) -> HTMLResponse:
    """A page, or a part of one.

    Args:
        request: that it answers.
        template: file name below ``templates``.
        person: who is logged in; None for nobody.
        status: of the answer.
        variables: of the template.
    """
    common = {"me": person, "path": request.url.path}
    return HTMLResponse(_templates.get_template(template).render({**common, **variables}), status_code=status)


def confirm(
    request: Request,
    person: Person,
    question: str,
    consequence: str,
    button: str,
    *,
    fields: Mapping[str, str],
    back: str,
) -> HTMLResponse:
    """A page that asks whether a form was meant; its answer is the same form with ``sure``.

    Args:
        request: the form.
        person: who sent it.
        question: in short.
        consequence: what happens then.
        button: what the person presses.
        fields: of the form.
        back: where else one can go.
    """
    shown: dict[str, Any] = {"question": question, "consequence": consequence, "button": button, "fields": fields}
    return page(request, "confirm.html", person, action=request.url.path, back=back, **shown)


def wants_fragment(request: Request) -> bool:
    """Whether only a fragment of a page is requested, by htmx."""
    return request.headers.get("hx-request") == "true"


def page_number(request: Request) -> int:
    """Which page of a long list is requested, from 1."""
    text = request.query_params.get("page", "1")
    return max(1, min(int(text), 10**6)) if text.isascii() and text.isdigit() and len(text) < 8 else 1


def _moment(text: str | None) -> Markup:
    """A time of the database, by the clock of this machine; browsers show their own."""
    if not text:
        return Markup("&ndash;")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return Markup("{}").format(text)
    utc = moment.astimezone(timezone.utc)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        utc.isoformat(), utc.strftime("%A %d %B %Y %H:%M:%S"), moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    )


def _state(name: str) -> Markup:
    """A state as a coloured word."""
    return Markup('<span class="state {}">{}</span>').format(STATE_KINDS.get(name, "quiet"), name)


def _number(value: Any, digits: int = 1) -> str:
    if not isinstance(value, (int, float)) or value != value:
        return "\N{EN DASH}"
    value = round(value, digits) + 0.0  # no minus zero
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _zone() -> str:
    """The time zone of this machine."""
    return str(datetime.now().astimezone().tzname())


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
    made.globals.update(disclaimer=DISCLAIMER, version=__version__, asset=_asset, zone=_zone)
    return made


_digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in STATIC.iterdir()}
_templates = _environment()
