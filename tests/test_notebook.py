"""The play page in a notebook: the frame, its address, the server behind it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tests.serve.client import Client, get, refusal
from tests.serve.reverse_proxy import proxying
from tests.serve.squares import turn_world

from reelworld import notebook
from reelworld.types import UserError

display = pytest.importorskip("IPython.display", reason="the notebook tests need the package ipython")


@pytest.fixture
def shown(monkeypatch) -> list[Any]:
    """What a cell displays."""
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    return shown


@contextlib.contextmanager
def playing(*args: Any, **settings: Any) -> Iterator[notebook.NotebookPage]:
    with contextlib.closing(notebook.play(*args, **settings)) as page:
        yield page


def test_a_cell_shows_a_frame_with_the_page(shown):
    with playing(turn_world(), width=800, height=600) as page:
        (frame,) = shown
        assert isinstance(frame, display.IFrame)
        html = frame._repr_html_()
        assert f'src="{page.url}"' in html and 'width="800"' in html and 'allow="gamepad; fullscreen"' in html
        address, _, query = page.url.removeprefix("http://").partition("/")
        assert address.startswith("127.0.0.1:") and len(query) > len("?token=") + 16
        assert refusal(address, "/api/world") == 403
        with get(address, f"/api/world{query}") as answer:
            assert json.load(answer)["name"] == "Square"
        with Client(address, f"/api/play{query}") as client:
            client.send(type="act", id=1, actions={"action": 0})
            client.frame()
            assert client.frame()["cell"] == (1, 0)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(page.url, timeout=5)


def test_a_shipped_world_is_named_and_described(shown):
    with playing("doorkey") as page:
        base, _, query = page.url.partition("?")
        with urllib.request.urlopen(f"{base}api/world?{query}", timeout=60) as answer:
            world = json.load(answer)
    assert world["name"].lower().startswith("doorkey") and len(world["card"]) > 100


@pytest.mark.parametrize("strips", [True, False])
def test_behind_the_notebooks_own_server_the_frame_has_a_path(shown, strips):
    """jupyter-server-proxy passes /proxy/PORT on without the prefix, and /proxy/absolute/PORT with it."""
    host = "hub.example.org"
    with playing(turn_world(), trust_hosts=[host], root_path="/user/me/proxy/{port}") as page:
        prefix = f"/user/me/proxy/{page.server.port}"
        path, _, query = page.url.partition("?")
        assert path == f"{prefix}/"
        with proxying(f"127.0.0.1:{page.server.port}", prefix, strips, {"Host": host}) as proxy:
            with get(proxy, page.url) as answer:
                assert f'<base href="{prefix}/">' in answer.read().decode()
                assert f"frame-ancestors 'self' {host}:* localhost:*" in answer.headers["Content-Security-Policy"]
            with Client(proxy, f"{prefix}/api/play?{query}", origin=f"https://{host}") as client:
                assert client.frame()["step"] == 0


def test_through_a_tunnel_the_frame_has_its_name(shown):
    with playing(turn_world(), trust_hosts="name.example") as page:
        assert page.url == f"https://name.example/{page.server.query}"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"trust_hosts": ["https://hub.example.org"]}, "host name"),
        ({"root_path": "https://hub.example.org/x"}, "must be the path"),
    ],
)
def test_settings_are_checked_before_a_world_is_read(shown, settings, line):
    with pytest.raises(UserError, match=line):
        notebook.play("no/such/world", **settings)
    with pytest.raises(UserError, match="no/such/world is not a world"):
        notebook.play("no/such/world")
    assert shown == []


def test_without_ipython_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(UserError, match="needs IPython: pip install"):
        notebook.play("doorkey")


def test_the_command_line_does_not_import_ipython():
    code = "import sys, reelworld.notebook, reelworld.cli.play; sys.exit('IPython' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_kernel_ends_although_a_page_is_open():
    code = (
        "from urllib.request import urlopen\nfrom reelworld import notebook\n"
        "page = notebook.play('doorkey')\nprint(urlopen(page.url).status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("200\n")
