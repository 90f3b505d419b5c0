"""An OpenID Connect provider on loopback: discovery, authorization with a form, tokens with PKCE, keys, end of session.

It is as strict as a real one: an unknown redirect, a wrong secret, a code used twice or a wrong verifier is refused. `claims` says who each address is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "lastword-dashboard", "a secret of the tests"
FORM = """<!doctype html><title>Provider</title><form method="post"><input type="hidden" name="asked" value="{asked}">
<label>E-mail <input name="email"></label><button>Continue</button></form>"""


class Provider(ThreadingHTTPServer):
    """The provider's state: its key, the codes that it gave, who is who, and how old its tokens are made."""

    daemon_threads = True

    def __init__(self, redirect_uri: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key = RSAKey.generate_key(2048, parameters={"kid": "one", "use": "sig"})
        self.redirect_uri = redirect_uri
        self.codes: dict[str, dict[str, str]] = {}
        self.claims: dict[str, dict[str, Any]] = {}
        self.issued_before_s = 0
        self.ended = 0

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def id_token(self, given: dict[str, str]) -> str:
        now = int(time.time()) - self.issued_before_s
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "sub": given["email"],
            "iat": now,
            "exp": int(time.time()) + 600,
            "nonce": given["nonce"],
            "email": given["email"],
            "email_verified": True,
            "name": given["email"].partition("@")[0].capitalize(),
            **self.claims.get(given["email"], {}),
        }
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the base class's
        """Silent."""

    def do_GET(self) -> None:  # the name is the base class's
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        provider = self.server
        match parts.path:
            case "/.well-known/openid-configuration":
                self._json(
                    {
                        "issuer": provider.issuer,
                        "authorization_endpoint": f"{provider.issuer}/authorize",
                        "token_endpoint": f"{provider.issuer}/token",
                        "jwks_uri": f"{provider.issuer}/jwks",
                        "end_session_endpoint": f"{provider.issuer}/logout",
                        "response_types_supported": ["code"],
                        "subject_types_supported": ["public"],
                        "id_token_signing_alg_values_supported": ["RS256"],
                        "code_challenge_methods_supported": ["S256"],
                    }
                )
            case "/jwks":
                self._json({"keys": [provider.key.as_dict(private=False)]})
            case "/authorize" if asked.get("client_id") == CLIENT_ID and asked.get("redirect_uri") == provider.redirect_uri:
                self._send(200, FORM.format(asked=base64.urlsafe_b64encode(parts.query.encode()).decode()), "text/html")
            case "/logout" if asked.get("post_logout_redirect_uri") == provider.redirect_uri:
                provider.ended += 1
                self._redirect(provider.redirect_uri)
            case _:
                self._json({"error": "invalid_request"}, 400)

    def do_POST(self) -> None:  # the name is the base class's
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if urlsplit(self.path).path == "/token":
            self._token(form)
            return
        asked = {name: values[0] for name, values in parse_qs(base64.urlsafe_b64decode(form["asked"]).decode()).items()}
        code = secrets.token_urlsafe(16)
        self.server.codes[code] = {**asked, "email": form["email"]}
        self._redirect(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")

    def _token(self, form: dict[str, str]) -> None:
        kind, _, encoded = self.headers.get("Authorization", "").partition(" ")
        presented = [unquote(part) for part in base64.b64decode(encoded).decode().split(":", 1)] if kind == "Basic" else []
        given = self.server.codes.pop(form.get("code", ""), None)
        hashed = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(hashed).decode().rstrip("=")
        if presented != [CLIENT_ID, CLIENT_SECRET]:
            self._json({"error": "invalid_client"}, 401)
        elif given is None or given["code_challenge"] != challenge or form["redirect_uri"] != given["redirect_uri"]:
            self._json({"error": "invalid_grant"}, 400)
        else:
            token = {"access_token": "none", "token_type": "Bearer", "expires_in": 600, "id_token": self.server.id_token(given)}
            self._json(token)

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value), "application/json")

    def _redirect(self, url: str) -> None:
        self._send(302, "", "text/plain", Location=url)

    def _send(self, status: int, body: str, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())


@contextmanager
def provider(redirect_uri: str) -> Iterator[Provider]:
    """A provider that runs until the block ends."""
    running = Provider(redirect_uri)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()
        thread.join(5)
