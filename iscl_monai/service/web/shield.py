"""Middleware before every route: limits on requests, and security headers on responses."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_FORM = 64 * 1024
SILENCE_S = 30.0  # that is waited in all for a form, or for a portion of a longer body
PORTION = 64 * 2**10  # bytes of a longer body

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
CLOSE = {"connection": "close"}
HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # "no-referrer" would make browsers hide the Origin of our own forms
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Shield:
    """Adds headers, and ends requests that are too large or do not go on.

    Args:
        app: what is behind.
        secure: whether browsers come by HTTPS.
        streamed: beginning of the paths that take long bodies and limit them themselves.
    """

    def __init__(self, app: ASGIApp, *, secure: bool, streamed: str) -> None:
        self.app = app
        self.headers = {**HEADERS, **({"strict-transport-security": "max-age=31536000"} if secure else {})}
        self.streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        names = {name for name, _ in scope["headers"]}
        if {b"content-length", b"transfer-encoding"} <= names:  # a proxy may believe the other one (RFC 9112 6.1)
            refusal = JSONResponse({"error": "Content-Length and Transfer-Encoding together"}, 400, CLOSE)
            await refusal(scope, receive, self._with_headers(send))
            return
        if scope["method"] == "HEAD":  # as GET (RFC 9110 9.3.2); the server sends no content then
            scope = {**scope, "method": "GET"}
        largest = None if scope["path"].startswith(self.streamed) else LARGEST_FORM
        await self.app(scope, _LimitedReceive(receive, largest), self._with_headers(send))

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        return send_with_headers


class _LimitedReceive:
    """The body of a request as it comes in, up to a limit."""

    def __init__(self, receive: Receive, largest: int | None) -> None:
        self.receive = receive
        self.left = largest
        self.whole = False
        self._waited_s = 0.0  # for the form, or for this portion
        self._portion = 0

    async def __call__(self) -> Any:
        if self.whole:  # only the disconnect can come now, however late
            return await self.receive()
        message = await self._next_message()
        if message["type"] == "http.request":
            self.whole = not message.get("more_body", False)
            size = len(message.get("body", b""))
            if self.left is None:
                self._count_portion(size)
            else:
                self.left -= size
                if self.left < 0:
                    raise HTTPException(413, f"a form of more than {LARGEST_FORM >> 10} kB")
        return message

    async def _next_message(self) -> Any:
        """What comes next, within what is left of the time: a byte now and then does not hold a connection."""
        begun = asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self.receive(), SILENCE_S - self._waited_s)
        except asyncio.TimeoutError:
            raise ClientDisconnect from None
        self._waited_s += asyncio.get_running_loop().time() - begun
        return message

    def _count_portion(self, size: int) -> None:
        self._portion += size
        if self._portion >= PORTION:
            self._portion, self._waited_s = 0, 0.0
