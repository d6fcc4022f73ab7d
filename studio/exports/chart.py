"""Curves as a picture that any page shows: SVG, written by hand, so that a model card needs no library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 36, 40
COLOURS = ("#059669", "#d97706", "#2563eb", "#db2777", "#7c3aed", "#0891b2")
TICKS = 5

# x and y of the points that are known
Line = tuple[Sequence[float], Sequence[float | None]]


def svg(lines: Mapping[str, Line], x_title: str) -> str:
    """Lines over one axis each way, with a legend; empty where no line has a point."""
    known = {name: points for name, line in lines.items() if (points := _known(*line))}
    if not known:
        return ""
    every = [point for points in known.values() for point in points]
    x_axis = _Axis([x for x, _ in every], LEFT, WIDTH - RIGHT)
    y_axis = _Axis([y for _, y in every], HEIGHT - BOTTOM, TOP)
    drawn = [_grid(x_axis, y_axis), _legend(list(known))]
    drawn += [_line(points, x_axis, y_axis, colour) for points, colour in zip(known.values(), _colours(), strict=False)]
    drawn.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_title, "middle"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *drawn, "</svg>\n"])


class _Axis:
    """From values to places on the picture, and the round values worth a mark."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        self.step = _round_step((high - low or abs(high) or 1) / TICKS)
        self.low = math.floor(low / self.step) * self.step
        self.high = max(math.ceil(high / self.step) * self.step, self.low + self.step)
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        return [self.low + number * self.step for number in range(round((self.high - self.low) / self.step) + 1)]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= step), 10 * power)


def _known(xs: Sequence[float], ys: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None]


def _colours() -> Sequence[str]:
    return COLOURS * 8


def _grid(x_axis: _Axis, y_axis: _Axis) -> str:
    across = [
        f'<path d="M{LEFT} {y_axis.at(value):.1f}H{WIDTH - RIGHT}" stroke="#e7e5e4"/>'
        + _text(LEFT - 8, y_axis.at(value) + 4, f"{value:.6g}", "end")
        for value in y_axis.ticks
    ]
    marks = [_text(x_axis.at(value), HEIGHT - BOTTOM + 18, f"{value:.6g}", "middle") for value in x_axis.ticks]
    return "\n".join([*across, *marks])


def _line(points: Sequence[tuple[float, float]], x_axis: _Axis, y_axis: _Axis, colour: str) -> str:
    places = [(x_axis.at(x), y_axis.at(y)) for x, y in points]
    path = f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{_places(places)}"/>'
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y in places)
    return path + (dots if len(points) <= 30 else "")


def _places(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _legend(names: Sequence[str]) -> str:
    wide = (WIDTH - LEFT - RIGHT) / len(names)
    return "\n".join(
        f'<rect x="{LEFT + number * wide:.0f}" y="12" width="12" height="12" fill="{colour}"/>'
        + _text(LEFT + number * wide + 18, 22, name, "start")
        for number, (name, colour) in enumerate(zip(names, _colours(), strict=False))
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="12" fill="#57534e" text-anchor="{anchor}">{escape(text)}</text>'
