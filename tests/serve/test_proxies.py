"""Play through reverse proxies and tunnels: path prefixes, trusted hosts, framing, the token."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable

import pytest
from tests.serve.client import Client, get, refusal
from tests.serve.reverse_proxy import proxying
from tests.serve.squares import running, turn_world
from websockets.exceptions import InvalidStatus

from reelworld.serve.config import ServeConfig
from reelworld.serve.library import WorldEntry, WorldLibrary
from reelworld.serve.server import PageServer
from reelworld.types import UserError

PREFIX = "/user/me%40lab/proxy/8000"
NAME = "name-8000.app.example.dev"


@pytest.fixture(params=[True, False], ids=["strips", "keeps"])
def proxied(request) -> Callable[..., str]:
    """Start a proxy under the prefix, which strips it or not."""
    return lambda address, **rewrites: proxying(address, PREFIX, request.param, rewrites)


def test_a_world_is_played_under_a_prefix(proxied):
    with running(turn_world(), root_path=PREFIX) as address, proxied(address) as proxy:
        assert refusal(proxy, "/api/world") == 404  # outside the prefix there is another site
        for path in ("", "/"):
            with get(proxy, f"{PREFIX}{path}") as page:
                assert f'<base href="{PREFIX}/">' in page.read().decode()
                assert "base-uri 'self'" in page.headers["Content-Security-Policy"]
        with get(proxy, f"{PREFIX}/play.js") as script:
            assert script.headers["Content-Type"].startswith("text/javascript")
        with Client(proxy, f"{PREFIX}/api/play", origin=f"http://{proxy}") as client:
            assert client.frame()["cell"] == (0, 0)
            client.send(type="act", id=1, actions={"action": 0})
            assert client.frame()["cell"] == (1, 0)
        with pytest.raises(InvalidStatus), Client(proxy, f"{PREFIX}/api/play", origin="http://evil.example"):
            pass
        assert refusal(proxy, f"{PREFIX}/api/world", Host="evil.example") == 403
        assert refusal(proxy, f"{PREFIX}x/api/world") == 404


def test_without_a_prefix_relative_addresses_stay_relative(turns):
    with get(turns) as page:
        assert '<base href="./">' in page.read().decode()
    assert refusal(turns, f"{PREFIX}/") == 404


def test_a_token_is_wanted_under_a_prefix_too(proxied):
    with running(turn_world(), root_path=PREFIX, token="secret") as address, proxied(address) as proxy:
        assert get(proxy, f"{PREFIX}/").status == 200
        assert get(proxy, f"{PREFIX}/api/world?token=secret").status == 200
        for path in ("/api/world", "/api/world?token=wrong", f"{PREFIX}/api/world", "//api/world"):
            assert refusal(proxy, f"{PREFIX}{path}") in (403, 404)
        assert refusal(proxy, f"{PREFIX}/api/world") == 403
        with pytest.raises(InvalidStatus) as refused, Client(proxy, f"{PREFIX}/api/play"):
            pass
        assert refused.value.response.status_code == 403
        with Client(proxy, f"{PREFIX}/api/play?token=secret") as client:
            assert client.frame()["step"] == 0


def test_a_gallery_stands_under_a_prefix(proxied):
    worlds = WorldLibrary([WorldEntry(name="Turns", load=turn_world)])
    with running(worlds, root_path=PREFIX) as address, proxied(address) as proxy:
        with get(proxy, f"{PREFIX}/api/worlds") as answer:
            assert json.load(answer)["worlds"][0]["name"] == "Turns"
        for path, script in (("/", "gallery.js"), ("/play?world=0", "play.js")):
            with get(proxy, f"{PREFIX}{path}") as page:
                text = page.read().decode()
                assert f'<base href="{PREFIX}/">' in text and f'src="{script}"' in text


def origin_is_accepted(address: str, origin: str, **headers: str) -> bool:
    try:
        with Client(address, origin=origin, additional_headers=headers) as client:
            return client.frame()["step"] == 0
    except InvalidStatus as refused:
        assert refused.response.status_code == 403
        return False


@pytest.fixture(scope="module")
def tunnelled():
    with running(turn_world(), trusted_hosts=(NAME, "second.example")) as address:
        yield address


@pytest.mark.parametrize(
    ("rewrites", "origin", "is_accepted"),
    [
        # a tunnel that passes both on
        ({"Host": NAME}, f"https://{NAME}", True),
        ({"Host": f"{NAME}:443"}, f"https://{NAME}", True),
        ({"Host": NAME.upper()}, f"https://{NAME}", True),
        # one that writes this server's address as Host
        ({}, f"https://{NAME}", True),
        # Codespaces: the Host stays, the page's own Origin becomes localhost
        ({"Host": NAME}, "http://localhost:PORT", True),
        ({"Host": NAME}, "http://localhost:1", False),
        ({"Host": NAME}, "http://localhost", False),
        ({}, "http://localhost:PORT", False),  # the Host is 127.0.0.1:PORT, which nobody trusted
        ({"Host": NAME}, "http://evil.example", False),
        ({"Host": NAME}, "null", False),
        ({"Host": NAME}, f"https://{NAME}.evil.example", False),
        ({"Host": NAME}, f"https://x.{NAME}", False),
        ({"Host": NAME}, "https://[", False),
        ({"Host": "evil.example"}, f"https://{NAME}", False),
        ({"Host": f"{NAME}.evil.example"}, f"https://{NAME}", False),
    ],
)
def test_trusted_names_are_admitted_and_no_others(tunnelled, rewrites, origin, is_accepted):
    origin = origin.replace("PORT", tunnelled.split(":")[1])
    with proxying(tunnelled, "", strips=False, rewrites={**rewrites, "Origin": origin}) as proxy:
        assert origin_is_accepted(proxy, "http://replaced.example") == is_accepted


def test_a_name_that_is_not_trusted_is_refused(turns, tunnelled):
    with get(tunnelled, "/api/world", Host=NAME) as answer:
        assert answer.status == 200
    assert refusal(turns, "/api/world", Host=NAME) == 403
    assert not origin_is_accepted(turns, f"https://{NAME}")


def test_pages_of_trusted_names_may_frame_the_page(turns, tunnelled):
    def ancestors(address: str) -> str:
        with get(address) as page:
            return page.headers["Content-Security-Policy"].partition("frame-ancestors ")[2]

    assert ancestors(turns) == "'none'"
    assert ancestors(tunnelled) == f"'self' {NAME}:* second.example:*"
    with running(turn_world(), root_path=PREFIX) as address:
        assert ancestors(address) == "'self'"


@pytest.mark.parametrize(
    ("settings", "proxy_urls", "has_token"),
    [
        ({}, [], False),
        ({"root_path": "lab"}, [], True),
        ({"trusted_hosts": (NAME,)}, [f"https://{NAME}/"], True),
        ({"trusted_hosts": (NAME,), "root_path": "/me/{port}/"}, [f"https://{NAME}/me/PORT/"], True),
    ],
)
def test_a_proxied_server_wants_a_token_that_its_addresses_carry(settings, proxy_urls, has_token):
    page = PageServer(turn_world(), ServeConfig(**settings))
    page.start()
    try:
        assert page.url == f"http://127.0.0.1:{page.port}/{page.query}"
        assert (len(page.query) > len("?token=") + 16) == has_token
        assert page.proxy_urls == [url.replace("PORT", str(page.port)) + page.query for url in proxy_urls]
        address = f"127.0.0.1:{page.port}"
        with get(address, f"{page.config.root_path}/api/world{page.query}") as answer:
            assert answer.status == 200
        if has_token:
            assert refusal(address, "/api/world") == 403
    finally:
        page.close()
        page.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(page.url, timeout=5)


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (
            "https://x.example.org/lab",
            r"'https://x\.example\.org/lab'; it must be one host name .* e\.g\. x\.example\.org",
        ),
        ("x.example.org:8000", r"e\.g\. x\.example\.org"),
        ("*.example.org", "wildcard"),
        ("*", "e.g. my-tunnel"),
        ("", "must be one host name"),
        ("a b", "'a b'"),
        ("x.example; script-src *", "must be one host name"),
        ("m\u00fcll.example", "host name"),
        ("-x.example", "host name"),
        (".example", "host name"),
    ],
)
def test_what_is_no_host_name_is_refused(names, line):
    with pytest.raises(UserError, match=f"(?s)--trust-host is .*{line}"):
        ServeConfig(trusted_hosts=("fine.example", names))


def test_names_are_compared_in_lower_case():
    assert ServeConfig(trusted_hosts=("A.Example", "a.example", "10.0.0.1")).trusted_hosts == ("a.example", "10.0.0.1")


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("", ""),
        ("/", ""),
        ("lab", "/lab"),
        ("/lab/", "/lab"),
        ("/user/me@lab/proxy/8000", "/user/me@lab/proxy/8000"),
        (PREFIX, PREFIX),
        ('/a b/"><script>', "/a%20b/%22%3E%3Cscript%3E"),
        ("/proxy/{port}", "/proxy/{port}"),
        ("/100%25", "/100%25"),
        ("/playground", "/playground"),
    ],
)
def test_prefixes_have_one_form(path, normal):
    config = ServeConfig(root_path=path)
    assert config.root_path == normal
    assert config.at_port(81).root_path == normal.replace("{port}", "81")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("https://hub.example.org/user/me", r"must be the path .* e\.g\. /user/me\."),
        ("//hub.example.org/user", "must be the path"),
        ("/a//b", "must be the path"),
        ("/a/../b", "must be the path"),
        ("/a/%2e%2e/b", "must be the path"),
        ("/a%2f..%2fb", "must be the path"),
        ("/a?token=1", "must be the path"),
        ("/a#b", "must be the path"),
        ("/a\nb", "must be the path"),
        ("/api", "an address of the server itself"),
        ("play/", "an address of the server itself"),
    ],
)
def test_what_is_no_prefix_is_refused(path, line):
    with pytest.raises(UserError, match=f"--root-path is .*{line}"):
        ServeConfig(root_path=path)
