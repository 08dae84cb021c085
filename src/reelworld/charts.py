"""Line charts as inline SVG. Colours come from the page's CSS variables, so that light and dark both fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, WIDE, HEIGHT = 560, 1170, 250
TOP, BOTTOM = 10, 38
CHARACTER = 8.0
"""Width of a digit in the broadest of the page's fonts; margins follow from the labels they hold."""
DOT_RADIUS = (3, 5, 2.4, 1.8)
DRAW_ORDER = (1, 0, 2, 3)
"""Equal lines must all be seen: a broad soft one below, the world's, then a dashed and a dotted one."""


def nice_ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Return about ``n`` round numbers that span an interval."""
    span = high - low or abs(high) or 1.0
    raw = span / n
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [round(k * step, 10) for k in range(first, last + 1)]


def line_chart(
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    *,
    x_label: str,
    y_label: str,
    low: Sequence[float | None] = (),
    high: Sequence[float | None] = (),
    as_percent: bool = False,
    log_y: bool = False,
    even_x: bool = False,
    width: int = WIDTH,
) -> str:
    """Draw series over x.

    Args:
        x: Positions, ascending.
        series: Name -> one value per position; None and infinities leave a gap. The first is drawn strong.
        x_label: Under the axis.
        y_label: Above the axis.
        low: Lower end of a band around the first series.
        high: Upper end of it.
        as_percent: Values are fractions; the axis runs from 0 to 100%.
        log_y: Logarithmic axis; values must be positive.
        even_x: Space the positions evenly (for 1, 2, 4, 8, 16).
        width: Of the drawing, in its own units.

    Returns:
        An <svg> element with a legend above it.
    """
    rows = {k: [_finite(v, log_y) for v in values] for k, values in series.items()}
    band = [(_finite(a, log_y), _finite(b, log_y)) for a, b in zip(low, high, strict=True)]
    values = [v for row in rows.values() for v in row if v is not None] + [v for p in band for v in p if v is not None]
    if not values:
        return '<p class="empty">Nothing to draw: every value is exact or missing.</p>'
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if as_percent else nice_ticks(min(values), max(values))
    bottom, top = ticks[0], ticks[-1] if ticks[-1] > ticks[0] else ticks[0] + 1
    places = list(range(len(x))) if even_x else list(x)
    first, last = places[0], places[-1] if places[-1] > places[0] else places[0] + 1
    y_marks = [(tick, _tick(tick, as_percent, log_y)) for tick in ticks]
    x_marks = _x_ticks(x, places)
    left = max(40.0, 8 + CHARACTER * max(len(mark) for _, mark in y_marks))
    right = width - max(12.0, CHARACTER / 2 * len(x_marks[-1][1]))

    def px(value: float) -> float:
        return round(left + (value - first) / (last - first) * (right - left), 1)

    def py(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [f'<svg class="chart" viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{escape(y_label)}">']
    for tick, mark in y_marks:
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{py(tick)}" y2="{py(tick)}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{py(tick) + 4}" text-anchor="end">{mark}</text>')
    for at, mark in x_marks:
        parts.append(f'<text class="tick" x="{px(at)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{mark}</text>')
    middle = (left + right) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">{escape(x_label)}</text>')
    both = [(p, a, b) for p, (a, b) in zip(places, band, strict=False) if a is not None and b is not None]
    if len(both) > 1:
        upper = " ".join(f"{px(p)},{py(b)}" for p, _, b in both)
        lower = " ".join(f"{px(p)},{py(a)}" for p, a, _ in reversed(both))
        parts.append(f'<polygon class="band" points="{upper} {lower}"/>')
    for i, (name, row) in sorted(enumerate(rows.items()), key=lambda item: DRAW_ORDER.index(min(item[0], 3))):
        parts += _line(i, name, [(px(p), py(v)) if v is not None else None for p, v in zip(places, row, strict=True)])
    parts.append("</svg>")
    keys = "".join(f'<span class="key k{min(i, 3)}">{escape(name)}</span>' for i, name in enumerate(rows))
    return f'<div class="legend">{keys}<span class="unit">{escape(y_label)}</span></div>{"".join(parts)}'


def _line(index: int, name: str, points: Sequence[tuple[float, float] | None]) -> list[str]:
    """Draw one series as polylines between its gaps; a lone point becomes a dot."""
    style, parts, run = f"k{min(index, 3)}", [], []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
            continue
        if len(run) > 1:
            path = " ".join(f"{a},{b}" for a, b in run)
            parts.append(f'<polyline class="line {style}" points="{path}"><title>{escape(name)}</title></polyline>')
        if run and len(points) <= 20:
            parts += [
                f'<circle class="dot {style}" cx="{a}" cy="{b}" r="{DOT_RADIUS[min(index, 3)]}"/>' for a, b in run
            ]
        run = []
    return parts


def _finite(value: float | None, log_y: bool) -> float | None:
    if value is None or not math.isfinite(value) or (log_y and value <= 0):
        return None
    return math.log10(value) if log_y else float(value)


def _x_ticks(x: Sequence[float], places: Sequence[float]) -> list[tuple[float, str]]:
    """Label every position when there are few, else round numbers inside the range."""
    if len(x) <= 10:
        return [(p, f"{v:g}") for p, v in zip(places, x, strict=True)]
    return [(t, f"{t:,.0f}" if t < 10_000 else f"{t / 1000:g}k") for t in nice_ticks(x[0], x[-1]) if x[0] <= t <= x[-1]]


def _tick(value: float, as_percent: bool, log_y: bool) -> str:
    if as_percent:
        return f"{100 * value:.0f}%"
    if not log_y:
        return f"{value:g}"
    digits = f"{10**value:.1e}".replace(".0e", "e")
    return f"{float(digits):g}" if -4.5 < value < 6 else digits.replace("e-0", "e-").replace("e+0", "e")
