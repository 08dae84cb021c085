"""Chromium, and assertions on the page.

The pixels of the small worlds are known, so tests read them back from the canvas.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.serve.squares import TILE

CHROMIUM = os.environ.get("REELWORLD_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1280, "height": 800}}

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it or set REELWORLD_CHROMIUM")


def expect(element: Any) -> Any:
    """Wait until something holds of an element."""
    from playwright.sync_api import expect

    return expect(element)


def cell(page: Any, canvas: str = "screen") -> tuple[int, int]:
    """Find the red square on a canvas."""
    x, y = page.evaluate(
        """(id) => {
          const canvas = document.getElementById(id);
          const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          for (let i = 0; i < rgba.length; i += 4)
            if (rgba[i] === 255 && rgba[i + 1] === 0) return [(i / 4) % canvas.width, Math.floor(i / 4 / canvas.width)];
          return [-1, -1];
        }""",
        canvas,
    )
    return x // TILE, y // TILE


def reaches(page: Any, expected: tuple[int, int]) -> None:
    """Wait until the red square is in a cell."""
    wait_until(page, lambda: cell(page) == expected)


def wait_until(page: Any, is_true: Callable[[], bool], seconds: float = 15.0) -> None:
    """Poll a condition while the page goes on."""
    deadline = time.monotonic() + seconds
    while not is_true() and time.monotonic() < deadline:
        page.wait_for_timeout(20)
    assert is_true()


def text(page: Any, selector: str, pattern: str) -> None:
    """Wait until the text of an element matches."""
    expect(page.locator(selector)).to_have_text(re.compile(pattern), timeout=15_000)


def state(page: Any, name: str) -> None:
    """Wait until the page is in a state."""
    page.wait_for_selector(f"body[data-state={name}]")


CONTRAST = """() => {
  const rgb = (text) => {
    const numbers = text.match(/[\\d.]+/g).map(Number);
    return text.startsWith("color(srgb") ? numbers.map((x, i) => (i < 3 ? 255 * x : x)) : numbers;
  };
  const light = (c) => {
    const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = c.slice(0, 3).map((x) => linear(x / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if ((colour[3] ?? 1) > 0.75) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const seen = e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
    if (!own || !seen || e.closest(":disabled, .arrow")) continue; // an arrow is a shape, not a word
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    found.push([e.textContent.trim(), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""
