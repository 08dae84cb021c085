"""A small reverse proxy, which passes requests and WebSockets under a path prefix on to a server, and a small site.

The proxy speaks no more HTTP than it must: it edits the head of a request and copies bytes from then on.
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping


class _Handler(socketserver.BaseRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (chunk := self.request.recv(65536)):
                return
            head += chunk
        head, _, rest = head.partition(b"\r\n\r\n")
        request, *lines = head.decode("latin-1").split("\r\n")
        method, path, version = request.split(" ")
        prefix = self.server.prefix
        if not f"{path}/".startswith((f"{prefix}/", f"{prefix}?")):
            self.request.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        headers = dict(line.split(": ", 1) for line in lines)
        if "upgrade" not in headers.get("Connection", "").lower():
            headers["Connection"] = "close"  # one request per connection, so that every head is seen
        for name, value in self.server.rewrites.items():
            if name in headers:
                headers[name] = value
        if self.server.strips:
            path = f"/{path.removeprefix(prefix).removeprefix('/')}"
        edited = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in headers.items())]
        with socket.create_connection(self.server.upstream) as upstream:
            upstream.sendall("\r\n".join(edited).encode("latin-1") + b"\r\n\r\n" + rest)
            back = threading.Thread(target=_copy, args=(upstream, self.request))
            back.start()
            _copy(self.request, upstream)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Proxy(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True  # browsers keep connections open that they do not use
    prefix: str
    strips: bool
    upstream: tuple[str, int]
    rewrites: Mapping[str, str]


@contextlib.contextmanager
def proxying(address: str, prefix: str, strips: bool, rewrites: Mapping[str, str] | None = None) -> Iterator[str]:
    """Pass requests under a prefix on to a server; yields the proxy's host and port.

    Args:
        address: Host and port of the server.
        prefix: Path prefix; requests elsewhere are answered with 404.
        strips: Leave the prefix out of the server's paths.
        rewrites: New values of headers that a request has, e.g. of Host.
    """
    with _Proxy(("127.0.0.1", 0), _Handler) as proxy:
        host, port = address.split(":")
        proxy.prefix, proxy.strips, proxy.upstream, proxy.rewrites = prefix, strips, (host, int(port)), rewrites or {}
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()
            thread.join()


@contextlib.contextmanager
def site(html: str) -> Iterator[str]:
    """Serve a page on a port of localhost; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
