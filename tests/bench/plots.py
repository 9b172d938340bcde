"""Bar charts as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, ROW, GAP = 860, 190, 90, 18, 30
COLORS = ("#3b6fb6", "#d98032", "#5a9e6f", "#b5525c", "#8065a8", "#8a8a8a")


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Return a chart with a bar for each label, below the name of its group.

    A label has the same color in each group. The longest bar of a group fills the width, so bars compare within it.
    """
    labels = list(dict.fromkeys(label for bars in groups.values() for label in bars))
    parts, y = [], 2 * GAP
    for group, found in groups.items():
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{escape(group)}</text>')
        longest = max(found.values(), default=0.0) or 1.0
        for label, value in found.items():
            length = (WIDTH - LEFT - RIGHT) * value / longest
            color = COLORS[labels.index(label) % len(COLORS)]
            y += ROW
            parts.append(f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{escape(label)}</text>')
            parts.append(f'<rect x="{LEFT}" y="{y - 11}" width="{length:.1f}" height="13" fill="{color}"/>')
            parts.append(f'<text x="{LEFT + length + 6:.1f}" y="{y}">{value:,.0f}</text>')
        y += GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="sans-serif" font-size="12">'
    )
    background = f'<rect width="{WIDTH}" height="{y}" fill="white"/>'
    heading = f'<text x="8" y="22" font-size="15">{escape(title)}, {escape(unit)}</text>'
    return "\n".join((head, background, heading, *parts, "</svg>\n"))
