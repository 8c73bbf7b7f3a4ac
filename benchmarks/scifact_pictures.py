"""The pictures of benchmarks/scifact.py: nDCG@10 against bytes a passage, and against latency.

Every point has its name beside it, in the colour of its group; names are placed where they cover
neither points nor each other. Colours are Okabe and Ito's, which colour-blind people tell apart,
and groups differ by their markers too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

GROUPS = {
    "words": ("#000000", "s"),
    "dense": ("#0072B2", "o"),
    "learned": ("#56B4E9", "D"),
    "late": ("#D55E00", "^"),
    "reranked": ("#CC79A7", "v"),
    "fused": ("#009E73", "P"),
}
"""Colour and marker of each group."""

PICTURES = {
    "scifact-bytes.png": ("bytes", "bytes a passage in the index"),
    "scifact-latency.png": ("single ms", "processor time of one query with its encoding, ms"),
}

FULLER = {"dense:adapter": "dense:adapter (passages seen in training)"}
"""What has to be said beside a point."""

LEAST = 0.7
"""The share of the best nDCG@10 below which the picture ends; what is left out stands under it."""

STEPS = (8, 14, 22, 32, 44, 58, 74, 92)
"""How far from its point a name may stand, in pixels of the layout."""


def need_matplotlib() -> None:
    """Exit, saying how to install it, if it is not there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SystemExit("the pictures need matplotlib; run: pip install matplotlib") from None


def draw(rows: Sequence[Row], title: str, folder: Path) -> None:
    """Both pictures, of the systems that a reader may choose between."""
    for name, (key, label) in PICTURES.items():
        one_picture(shown(rows), title, key, label).savefig(folder / name)


def shown(rows: Sequence[Row]) -> list[Row]:
    """One fusion of each kind, no stand-ins, and nothing that is the same in a picture."""
    methods = ("rrf", "minmax", "sum")
    kept = [row for row in rows if not row["system"].endswith(methods)]
    kept = [row for row in kept if not row["system"].startswith("impacts")]
    return [{**row, "system": FULLER.get(row["system"], row["system"])} for row in kept]


def merged(rows: Sequence[Row], key: str) -> list[Row]:
    """Systems of a group that stand in about the same place share a point and a name."""
    found: list[dict[str, Any]] = []
    for row in rows:
        for one in found:
            near = abs(np.log(row[key] / one[key])) < 0.15 and row["group"] == one["group"]
            if near and round(row["nDCG@10"] - one["nDCG@10"], 3) == 0:
                one["system"] += f", {row['system'].removeprefix('dense ')}"
                break
        else:
            found.append(dict(row))
    return list(found)


def one_picture(rows: Sequence[Row], title: str, key: str, label: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 5.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    least = LEAST * max(row["nDCG@10"] for row in rows)
    inside = merged([row for row in rows if row["nDCG@10"] >= least], key)
    for row in inside:
        colour, marker = GROUPS[row["group"]]
        axes.plot(row[key], row["nDCG@10"], marker, color=colour, markersize=7, mec="white")
    _arrange(axes, label, inside, [row for row in rows if row["nDCG@10"] < least])
    axes.set_title(title, loc="left", fontsize=11)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # names are placed on what is laid out, and move nothing
    _name(axes, inside, key)
    return figure


def _arrange(axes: Any, label: str, inside: Sequence[Row], below: Sequence[Row]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5]))
    axes.set_xlabel(label)
    axes.set_ylabel("nDCG@10")
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if below:
        names = ", ".join(f"{row['system']} {row['nDCG@10']:.2f}" for row in below[:3])
        more = f" and {len(below) - 3} more" if len(below) > 3 else ""
        axes.set_title(f"not shown: {names}{more}", loc="right", fontsize=8, color="#555555")


def _name(axes: Any, rows: Sequence[Row], key: str) -> None:
    """Write each name at the first place about its point that is free."""
    points = axes.transData.transform([(row[key], row["nDCG@10"]) for row in rows])
    taken = [_box(point, (0, 0), 13, 13) for point in points]
    limits = axes.get_window_extent().extents
    crowded = [int((np.abs(points - one).max(axis=1) < 60).sum()) for one in points]
    for place in np.argsort([-count for count in crowded], kind="stable"):
        row, point = rows[place], points[place]
        width, height = _size(axes, row["system"])
        offset, box = _free(point, width, height, taken, limits)
        taken.append(box)
        _write(axes, row, (row[key], row["nDCG@10"]), offset)


def _write(axes: Any, row: Row, at: tuple[float, float], offset: np.ndarray) -> None:
    colour, _ = GROUPS[row["group"]]
    far = np.hypot(*offset) > 20
    axes.annotate(
        row["system"], at, offset * 72 / axes.figure.dpi, textcoords="offset points", fontsize=8.5,
        color=colour, ha="left", va="center",
        arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkB": 4} if far else None,
    )  # fmt: skip


def _size(axes: Any, text: str) -> tuple[float, float]:
    """Width and height of a name in pixels."""
    drawn = axes.text(0, 0, text, fontsize=8.5)
    box = drawn.get_window_extent()
    drawn.remove()
    return box.width + 4, box.height + 2


def _free(
    point: np.ndarray, width: float, height: float, taken: Sequence[np.ndarray], limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The offset of the middle of the left edge, and the box, where the least is covered."""
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for step in STEPS:
        for angle in np.deg2rad([0, 180, 90, 270, 45, 315, 135, 225, 20, 340, 160, 200]):
            across, up = np.cos(angle), np.sin(angle)
            left = step * across - (width * (1 - across) / 2)
            offset = np.array([left, step * up])
            box = _box(point, offset + (width / 2, 0), width, height)
            covered = sum(_overlap(box, other) for other in taken) + 10 * _outside(box, limits)
            if best is None or covered < best[0]:
                best = covered, offset, box
            if covered == 0:
                return offset, box
    assert best is not None
    return best[1], best[2]


def _box(point: np.ndarray, offset: Any, width: float, height: float) -> np.ndarray:
    """Left, bottom, right, top."""
    x, y = point + offset
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The area that two boxes share."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(np.prod(np.maximum(sides, 0)))


def _outside(box: np.ndarray, limits: np.ndarray) -> float:
    beyond = np.maximum(limits[:2] - box[:2], 0).sum() + np.maximum(box[2:] - limits[2:], 0).sum()
    return float(beyond)
