"""Browsers that somebody has logged in from: whoever keeps an account busy with wrong passwords keeps these not out.

A cookie that a right password has earned (device cookies, OWASP): tries that come with it are counted for themselves,
and not together with those of strangers.
"""

from __future__ import annotations

import secrets

from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import Response

from iscl_monai.service.web.site import site_of

COOKIE = "iscl_device"
KEPT_S = 365 * 24 * 3600


class Devices:
    """Makes and reads the cookies.

    Args:
        key: of the node.
    """

    def __init__(self, key: bytes) -> None:
        self._signer = URLSafeSerializer(key, salt="device")

    def of(self, request: Request, account: str) -> str:
        """The device of a request, if that account has been logged in from it; else ""."""
        try:
            content = self._signer.loads(request.cookies.get(COOKIE, ""))
        except BadData:
            return ""
        return str(content["device"]) if content["account"] == account.lower() else ""

    def remember(self, request: Request, response: Response, account: str) -> None:
        """The account has been logged in from there."""
        device = self.of(request, account) or secrets.token_urlsafe(16)
        cookie = str(self._signer.dumps({"account": account.lower(), "device": device}))
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=KEPT_S,
            path="/login",
            httponly=True,
            secure=site_of(request).secure,
            samesite="strict",
        )
