"""Origin checks, access token, security headers and the path prefix of a proxy.

The Host header is checked because a page elsewhere could point its own name at this machine. The Origin header is
checked because pages elsewhere may open WebSockets anywhere. Off loopback and behind proxies the API also requires a
token. Proxies keep or rewrite Host and Origin independently, so a trusted name may be in either.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
from urllib.parse import parse_qs, unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelworld.serve.config import ServeConfig
from reelworld.serve.protocol import CloseCode

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class RootPathMiddleware:
    """Strip the path prefix, for proxies that do not."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = unquote(root_path)  # as paths in scopes are

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with the path that routes and checks expect."""
        if scope["type"] in ("http", "websocket") and f"{scope['path']}/".startswith(f"{self._root_path}/"):
            scope = {**scope, "path": scope["path"].removeprefix(self._root_path) or "/"}
        await self._app(scope, receive, send)


class SecurityMiddleware:
    """Refuse requests that do not come from this server's own page, and add security headers."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str, config: ServeConfig) -> None:
        self._app = app
        self._trusted = frozenset(config.trusted_hosts)
        self._hosts = hosts | self._trusted | {"localhost"}
        self._token = token
        self._headers = dict(HEADERS)
        if config.is_proxied:
            ancestors = " ".join(["'self'", *(f"{name}:*" for name in config.trusted_hosts)])
            policy = HEADERS["Content-Security-Policy"].replace(
                "frame-ancestors 'none'", f"frame-ancestors {ancestors}"
            )
            self._headers["Content-Security-Policy"] = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request and pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if reason := self._refusal(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": CloseCode.BAD_MESSAGE, "reason": reason})
                return
            await PlainTextResponse(f"{reason}\n", 403, headers=self._headers)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str:
        """Return the reason to refuse a request; empty when there is none."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own_host(host):
            return (
                "this host name is not served here; use the address that reelworld play printed, or --trust-host NAME"
            )
        origin = headers.get("origin")
        if origin is not None and not self._is_own_origin(origin, host, scope):
            return "requests from other pages are refused"
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        needs_token = bool(self._token) and scope["path"].startswith("/api/")
        if needs_token and not hmac.compare_digest(given.encode(), self._token.encode()):
            return "the token is missing or wrong; use the address that reelworld play printed"
        return ""

    def _is_own_host(self, host: str) -> bool:
        """Return True when a Host header names this server; a rebound DNS name is never an IP address."""
        name = _host_name(f"//{host}")
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        return name in self._hosts

    def _is_own_origin(self, origin: str, host: str, scope: Scope) -> bool:
        """Return True when an Origin header names the requested host, a trusted one, or this server on localhost."""
        name = _host_name(origin)
        if not name:  # "null", or no URL
            return False
        if name in self._trusted or urlsplit(origin).netloc == host:
            return True
        # Codespaces keep the Host header and write the page's own origin as http://localhost:PORT.
        port = (scope.get("server") or ("", None))[1]
        return _host_name(f"//{host}") in self._trusted and origin == f"http://localhost:{port}"


def _host_name(url: str) -> str:
    """Return the host name of a URL in lower case; empty when there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
