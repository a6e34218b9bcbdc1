"""Charts as SVG text: axes, areas, lines, bars, dots. Owns how things look, not what they mean."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10, sqrt

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a6f00")
"""Told apart by colour-blind eyes too (after Okabe and Ito)."""
GREY, SUN = "#8a8a8a", "#f4d35e"
_INK, _RULE = "#222222", "#dddddd"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One direction of a panel. `ticks`: where, and what is written there; `log`: both ends above 0."""

    low: float
    high: float
    label: str = ""
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def place(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high one; beyond them it is cut off."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = log10(max(value, low)), log10(low), log10(high)
        return min(1.0, max(0.0, (value - low) / (high - low)))


def linear(low: float, high: float, label: str = "", unit: float = 1.0) -> Axis:
    """Return a linear axis with about five round ticks, written in units of `unit`."""
    if not high > low:
        high = low + unit
    step = _round_step((high - low) / unit / 4.0) * unit
    ticks = [step * number for number in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]
    return Axis(low=low, high=high, label=label, ticks=tuple((at, f"{at / unit:g}") for at in ticks))


def logarithmic(low: float, high: float, label: str, unit: float = 1.0) -> Axis:
    """Return a logarithmic axis from `low` to `high`, above 0, with ticks at 1, 2 and 5 of each decade."""
    decades = range(floor(log10(low / unit)), ceil(log10(high / unit)) + 1)
    steps = (1.0, 2.0, 5.0) if len(decades) <= 4 else (1.0,)
    marks = [step * 10.0**power for power in decades for step in steps]
    ticks = tuple((unit * mark, f"{mark:g}") for mark in marks if low <= unit * mark <= high)
    return Axis(low=low, high=high, label=label, log=True, ticks=ticks)


def _round_step(least: float) -> float:
    decade = 10.0 ** floor(log10(least))
    return next(factor * decade for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * decade >= least * 0.999)


@dataclass(slots=True, kw_only=True)
class Panel:
    """A rectangle with two axes that things are drawn in, in data coordinates; pixels outside."""

    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis
    title: str = ""
    _drawn: list[str] = field(default_factory=list)

    def area(self, points: Sequence[Point], colour: str, opacity: float = 1.0) -> None:
        """Fill from the lower edge up to a course."""
        if points:
            floor_w = self.y.low
            outline = [(points[0][0], floor_w), *points, (points[-1][0], floor_w)]
            self._add(f'<polygon points="{self._path(outline)}" fill="{colour}" fill-opacity="{opacity:g}"/>')

    def line(self, points: Sequence[Point], colour: str, width: float = 1.5, dash: str = "") -> None:
        """Draw a course."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._add(
            f'<polyline points="{self._path(points)}" fill="none" stroke="{colour}"'
            f' stroke-width="{width:g}"{dashed}/>'
        )

    def bar(self, low: Point, high: Point, colour: str, says: str = "") -> None:
        """Fill a rectangle between two corners; `says` is shown by the browser."""
        (left, bottom), (right, top) = self._at(low), self._at(high)
        self._add(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
            f' fill="{colour}"><title>{escape(says)}</title></rect>'
        )

    def dots(self, points: Sequence[Point], colour: str, *, hollow: bool = False) -> None:
        """Draw points; those at one place as one dot whose area grows with their number."""
        look = f'fill="none" stroke="{colour}"' if hollow else f'fill="{colour}" fill-opacity="0.6"'
        for point, count in Counter(points).items():
            x, y = self._at(point)
            radius = 1.5 + 1.2 * sqrt(count)
            says = f"<title>{count}</title>"
            self._add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {look}>{says}</circle>')

    def write(self, point: Point, text: str, colour: str = _INK, anchor: str = "start") -> None:
        """Write beside a point."""
        x, y = self._at(point)
        self._add(_text(x + 4, y - 4, text, colour=colour, anchor=anchor))

    def drawn(self) -> str:
        """Return the panel with its frame, ticks and labels."""
        right, bottom = self.left + self.width, self.top + self.height
        parts = [_text(self.left, self.top - 8, self.title, bold=True)]
        for value, text in self.x.ticks:
            x = self.left + self.width * self.x.place(value)
            parts.append(_rule(x, self.top, x, bottom))
            parts.append(_text(x, bottom + 15, text, anchor="middle"))
        for value, text in self.y.ticks:
            y = bottom - self.height * self.y.place(value)
            parts.append(_rule(self.left, y, right, y))
            parts.append(_text(self.left - 6, y + 4, text, anchor="end"))
        parts += self._drawn
        parts.append(
            f'<rect x="{self.left:.1f}" y="{self.top:.1f}" width="{self.width:.1f}"'
            f' height="{self.height:.1f}" fill="none" stroke="{_INK}" stroke-width="0.8"/>'
        )
        parts.append(_text(self.left + self.width / 2, bottom + 32, self.x.label, anchor="middle"))
        x, y = self.left - 48, self.top + self.height / 2
        turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"'
        parts.append(_text(x, y, self.y.label, anchor="middle", more=turned))
        return "\n".join(part for part in parts if part)

    def _add(self, element: str) -> None:
        self._drawn.append(element)

    def _at(self, point: Point) -> Point:
        x = self.left + self.width * self.x.place(point[0])
        return x, self.top + self.height * (1.0 - self.y.place(point[1]))

    def _path(self, points: Sequence[Point]) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self._at, points))


def legend(left: float, top: float, entries: Sequence[tuple[str, str]], gap: float = 18.0) -> str:
    """Return (colour, words) one under the other."""
    parts = []
    for number, (colour, words) in enumerate(entries):
        y = top + gap * number
        parts.append(f'<rect x="{left:.1f}" y="{y - 9:.1f}" width="11" height="11" fill="{colour}"/>')
        parts.append(_text(left + 17, y, words))
    return "\n".join(parts)


def document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """Return a whole SVG file."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
        f' width="{width:g}" height="{height:g}" font-family="sans-serif" font-size="12">'
    )
    ground = f'<rect width="{width:g}" height="{height:g}" fill="white"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, *parts, "</svg>"]) + "\n"


def _text(
    x: float,
    y: float,
    text: str,
    *,
    colour: str = _INK,
    anchor: str = "start",
    bold: bool = False,
    more: str = "",
) -> str:
    if not text:
        return ""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}"{weight}{more}>'
        f"{escape(text)}</text>"
    )


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{_RULE}"/>'
