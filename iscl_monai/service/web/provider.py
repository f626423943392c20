"""What an identity provider says about somebody: OpenID Connect, authorization code with PKCE."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.settings import OIDC

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]  # never a shared secret
TIMEOUT_S = 10.0
LEEWAY_S = 60  # clocks differ
KEYS_ANEW_S = 30.0  # a token with an unknown key makes us ask for keys again, but not more often than that


class NotVouchedError(Exception):
    """The provider cannot be asked, or what came back does not prove who it is; the text is for our log."""


class Provider:
    """The hospital's identity provider.

    Args:
        settings: of it.

    Raises:
        ConfigRefusal: its address is no HTTPS (HTTP on this machine is let pass), or the secret cannot be read.
    """

    def __init__(self, settings: OIDC) -> None:
        self.settings = settings
        self.secret = _secret(settings.client_secret_file)
        _check_address(settings.issuer, ConfigRefusal)
        self._lock = threading.Lock()
        self._known: Mapping[str, Any] = {}
        self._keys: KeySet | None = None
        self._keys_at = 0.0

    def way_there(self, redirect_uri: str) -> tuple[str, dict[str, str]]:
        """Where a browser has to go, and what must be remembered until it comes back.

        Raises:
            NotVouchedError: the provider cannot be asked.
        """
        kept = {name: secrets.token_urlsafe(48) for name in ("state", "nonce", "verifier")}
        challenge = urlsafe_b64encode(hashlib.sha256(kept["verifier"].encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid profile email",
            "state": kept["state"],
            "nonce": kept["nonce"],
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = self._endpoint("authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}", kept

    def who(self, code: str, redirect_uri: str, kept: Mapping[str, str]) -> tuple[str, str | None]:
        """Name and role of whoever came back with a code; the role is None when no group of theirs has one.

        Raises:
            NotVouchedError: the answer does not prove who it is.
        """
        try:
            token = self._token(code, redirect_uri, kept["verifier"])
            claims = self._claims(str(token["id_token"]), kept["nonce"])
            if self.settings.role_claim not in claims and "userinfo_endpoint" in self._about():
                bearer = {"Authorization": f"Bearer {token['access_token']}"}
                more = _asked(self._endpoint("userinfo_endpoint"), bearer)
                if more.get("sub") == claims["sub"]:  # else it tells of somebody else
                    claims = {**more, **claims}
        except NotVouchedError:
            raise
        except Exception as error:  # each library has its own; none of them proves anything
            raise NotVouchedError(f"{type(error).__name__}: {error}"[:300]) from error
        name = next((str(claims[one]) for one in ("preferred_username", "email", "sub") if claims.get(one)), "")
        return name, self._role(claims.get(self.settings.role_claim))

    def _role(self, told: Any) -> str | None:
        groups = told if isinstance(told, list) else [told]
        found = {self.settings.roles[str(group)] for group in groups if str(group) in self.settings.roles}
        return next((role for role in ("admin", "operator", "viewer") if role in found), None)

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        try:
            claims = jwt.decode(token, self._all_keys(), algorithms=ALGORITHMS).claims
        except (JoseError, ValueError):  # perhaps the keys have changed
            claims = jwt.decode(token, self._all_keys(anew=True), algorithms=ALGORITHMS).claims
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self._about()["issuer"]},
            aud={"essential": True, "value": self.settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        registry.validate(claims)
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self.settings.client_id:
            raise NotVouchedError("the token was made for another client")
        return dict(claims)

    def _all_keys(self, *, anew: bool = False) -> KeySet:
        with self._lock:
            if self._keys is None or (anew and time.monotonic() - self._keys_at > KEYS_ANEW_S):
                self._keys = KeySet.import_key_set(_asked(self._endpoint("jwks_uri")))
                self._keys_at = time.monotonic()
            return self._keys

    def _about(self) -> Mapping[str, Any]:
        """What the provider publishes about itself; asked for at the first login, so that the node starts without."""
        if not self._known:
            issuer = self.settings.issuer.rstrip("/")
            told = _asked(f"{issuer}/.well-known/openid-configuration")
            if str(told.get("issuer", "")).rstrip("/") != issuer:
                raise NotVouchedError("the provider calls itself by another name than our settings do")
            self._known = told
        return self._known

    def _endpoint(self, name: str) -> str:
        address = str(self._about().get(name, ""))
        _check_address(address, lambda came, **_: NotVouchedError(f"{name}: {came}"))
        return address

    def _token(self, code: str, redirect_uri: str, verifier: str) -> Mapping[str, Any]:
        """Change the code for tokens (RFC 6749 4.1.3, RFC 7636 4.5)."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        login = None
        if "client_secret_basic" in self._about().get("token_endpoint_auth_methods_supported", ["client_secret_basic"]):
            login = httpx.BasicAuth(quote(self.settings.client_id, safe=""), quote(self.secret, safe=""))
        else:
            form |= {"client_id": self.settings.client_id, "client_secret": self.secret}
        answer = httpx.post(self._endpoint("token_endpoint"), data=form, auth=login, timeout=TIMEOUT_S)
        told: Mapping[str, Any] = answer.raise_for_status().json()
        return told


def _asked(address: str, headers: Mapping[str, str] | None = None) -> Any:
    try:
        answer = httpx.get(address, headers=headers, timeout=TIMEOUT_S).raise_for_status()
        return answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise NotVouchedError(f"{address}: {type(error).__name__}") from error


def _check_address(address: str, refusal: Any) -> None:
    parts = urlsplit(address)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and local)):
        raise refusal(
            f"identity provider at {address[:200]!r}", allowed="an https address", cure="correct [web.oidc] issuer"
        )


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigRefusal(
            f"{path}: {getattr(error, 'strerror', None) or error}",
            allowed="a file with the client's secret",
            cure="correct [web.oidc] client_secret_file",
        ) from error
