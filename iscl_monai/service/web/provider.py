"""Client of an identity provider: OpenID Connect, authorization code flow with PKCE."""

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
from iscl_monai.service.web_settings import OIDC

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]  # never a shared secret
TIMEOUT_S = 10.0
LEEWAY_S = 60  # clocks differ
KEYS_ANEW_S = 30.0  # a token with an unknown key has us fetch the keys again, but not more often than that


class IdentityNotProvenError(Exception):
    """The provider cannot be reached, or its answer does not prove who somebody is; the text is for our log."""


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
        self._discovered: Mapping[str, Any] = {}
        self._keys: KeySet | None = None
        self._keys_at = 0.0

    def authorization_url(self, redirect_uri: str) -> tuple[str, dict[str, str]]:
        """Where a browser has to go, and the login state to remember until it comes back.

        Raises:
            IdentityNotProvenError: the provider cannot be reached.
        """
        login_state = {name: secrets.token_urlsafe(48) for name in ("state", "nonce", "verifier")}
        challenge = urlsafe_b64encode(hashlib.sha256(login_state["verifier"].encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid profile email",
            "state": login_state["state"],
            "nonce": login_state["nonce"],
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = self._endpoint("authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}", login_state

    def identify(self, code: str, redirect_uri: str, login_state: Mapping[str, str]) -> tuple[str, str | None]:
        """Name and role of the person who came back with a code; the role is None when no group of theirs has one.

        Raises:
            IdentityNotProvenError: the answer does not prove who they are.
        """
        try:
            token = self._token(code, redirect_uri, login_state["verifier"])
            claims = self._claims(str(token["id_token"]), login_state["nonce"])
            if self.settings.role_claim not in claims and "userinfo_endpoint" in self._metadata():
                bearer = {"Authorization": f"Bearer {token['access_token']}"}
                more = _get_json(self._endpoint("userinfo_endpoint"), bearer)
                if more.get("sub") == claims["sub"]:  # else it is about somebody else
                    claims = {**more, **claims}
        except IdentityNotProvenError:
            raise
        except Exception as error:  # each library has its own; none of them proves anything
            raise IdentityNotProvenError(f"{type(error).__name__}: {error}"[:300]) from error
        name = next((str(claims[one]) for one in ("preferred_username", "email", "sub") if claims.get(one)), "")
        return name, self._role(claims.get(self.settings.role_claim))

    def _role(self, claim: Any) -> str | None:
        groups = claim if isinstance(claim, list) else [claim]
        found = {self.settings.roles[str(group)] for group in groups if str(group) in self.settings.roles}
        return next((role for role in ("admin", "operator", "viewer") if role in found), None)

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        try:
            claims = jwt.decode(token, self._key_set(), algorithms=ALGORITHMS).claims
        except (JoseError, ValueError):  # perhaps the keys have changed
            claims = jwt.decode(token, self._key_set(anew=True), algorithms=ALGORITHMS).claims
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self._metadata()["issuer"]},
            aud={"essential": True, "value": self.settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        registry.validate(claims)
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self.settings.client_id:
            raise IdentityNotProvenError("the token was made for another client")
        return dict(claims)

    def _key_set(self, *, anew: bool = False) -> KeySet:
        with self._lock:
            if self._keys is None or (anew and time.monotonic() - self._keys_at > KEYS_ANEW_S):
                self._keys = KeySet.import_key_set(_get_json(self._endpoint("jwks_uri")))
                self._keys_at = time.monotonic()
            return self._keys

    def _metadata(self) -> Mapping[str, Any]:
        """The provider's discovery document; fetched at the first login, so that the node starts without it."""
        if not self._discovered:
            issuer = self.settings.issuer.rstrip("/")
            document = _get_json(f"{issuer}/.well-known/openid-configuration")
            if str(document.get("issuer", "")).rstrip("/") != issuer:
                raise IdentityNotProvenError("the provider calls itself by another name than our settings do")
            self._discovered = document
        return self._discovered

    def _endpoint(self, name: str) -> str:
        address = str(self._metadata().get(name, ""))
        _check_address(address, lambda came, **_: IdentityNotProvenError(f"{name}: {came}"))
        return address

    def _token(self, code: str, redirect_uri: str, verifier: str) -> Mapping[str, Any]:
        """Exchange the code for tokens (RFC 6749 4.1.3, RFC 7636 4.5)."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        if "client_secret_basic" in self._metadata().get(
            "token_endpoint_auth_methods_supported", ["client_secret_basic"]
        ):
            credentials: httpx.Auth | None = httpx.BasicAuth(
                quote(self.settings.client_id, safe=""), quote(self.secret, safe="")
            )
        else:
            credentials = None
            form |= {"client_id": self.settings.client_id, "client_secret": self.secret}
        response = httpx.post(self._endpoint("token_endpoint"), data=form, auth=credentials, timeout=TIMEOUT_S)
        tokens: Mapping[str, Any] = response.raise_for_status().json()
        return tokens


def _get_json(address: str, headers: Mapping[str, str] | None = None) -> Any:
    try:
        response = httpx.get(address, headers=headers, timeout=TIMEOUT_S).raise_for_status()
        return response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise IdentityNotProvenError(f"{address}: {type(error).__name__}") from error


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
