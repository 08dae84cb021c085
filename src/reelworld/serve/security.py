"""Origin checks, access token and security headers.

The Host header is checked because a page elsewhere could point its own name at this machine. The Origin header is
checked because pages elsewhere may open WebSockets anywhere. Off loopback the API also requires a token.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelworld.serve.protocol import CloseCode

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class SecurityMiddleware:
    """Refuse requests that do not come from this server's own page, and add security headers."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str) -> None:
        self._app = app
        self._hosts = hosts | {"localhost"}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request and pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if reason := self._refusal(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": CloseCode.BAD_MESSAGE, "reason": reason})
                return
            await PlainTextResponse(f"{reason}\n", 403, headers=HEADERS)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str:
        """Return the reason to refuse a request; empty when there is none."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own_host(host):
            return "this host name is not served here; use the address that reelworld play printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "requests from other pages are refused"
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        needs_token = bool(self._token) and scope["path"].startswith("/api/")
        if needs_token and not hmac.compare_digest(given.encode(), self._token.encode()):
            return "the token is missing or wrong; use the address that reelworld play printed"
        return ""

    def _is_own_host(self, host: str) -> bool:
        """Return True when a Host header names this server; a rebound DNS name is never an IP address."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            with contextlib.suppress(ValueError):
                ipaddress.ip_address(name)
                return True
        except ValueError:
            return False
        return name in self._hosts
