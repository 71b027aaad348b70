"""Measurements as one HTML page that needs no network: sortable tables, interactive plots, conditions.

The page's policy allows the scripts written here, known by their hashes, and nothing from anywhere else; so a name that
looks like a script stays a name even if it were not escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from vovnet.files import replacing
from vovnet.profiling.measurement import Measurement
from vovnet.profiling.speed import Latency
from vovnet.report.measurement import columns, labels, layer_table, remarks, sweep, tables
from vovnet.report.panels import (
    ROOF_NOTE,
    Panel,
    Point,
    Roof,
    group_layers,
    layer_points,
    roofline_panel,
    tradeoff_panels,
)
from vovnet.report.plots import COLOURS
from vovnet.report.table import MISSING
from vovnet.report.templates import render

# The shapes of measurement_plots.MARKERS, as plotly calls them and as they are drawn beside a name, 16 by 16.
SHAPES = {
    "circle": "M8 2a6 6 0 1 1 0 12a6 6 0 1 1 0-12z",
    "square": "M3 3h10v10h-10z",
    "triangle-up": "M8 2l6 11h-12z",
    "diamond": "M8 1l6 7l-6 7l-6-7z",
    "triangle-down": "M8 14l6-11h-12z",
    "cross": "M6 2h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
    "x": "M4 2l4 4l4-4l2 2l-4 4l4 4l-2 2l-4-4l-4 4l-2-2l4-4l-4-4z",
    "star": "M8 1l2 5h5l-4 3.2l1.6 5.2l-4.600-3.200l-4.600 3.200l1.600-5.200l-4-3.200h5z",
}
INK = "ink"  # stands for the colour of text, which the page sets: light or dark


def write_page(measurements: Sequence[Measurement], path: str | Path) -> None:
    """Write the page: 5 MB, nearly all of it the library that draws. Raises ValueError without a measurement."""
    from plotly.offline import get_plotlyjs

    if not measurements:
        raise ValueError("a page needs at least one measurement, got none")
    script = (resources.files("vovnet.report") / "page.js").read_text(encoding="utf-8")
    names = labels(measurements)
    page = render(
        "page.html.j2",
        scripts=[get_plotlyjs().replace("\r\n", "\n"), script],
        title=f"What {names[0] if len(names) == 1 else f'{len(names)} models'} cost",
        tables=tables(measurements),
        names=names,
        swatches=[(_colour(place), _shape(place)[1]) for place in range(len(names))],
        remarks=[line for remark in remarks(measurements) for line in remark.splitlines()],
        missing=MISSING,
        data={"figures": _figures(measurements), "models": _models(measurements)},
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")  # other ends of lines have other hashes


def _models(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Of each model its table of layers and its plots, for the one that is chosen."""
    found = []
    for one, name in zip(measurements, labels(measurements), strict=True):
        table = layer_table([one])
        kept = table.columns[1:]  # without the model
        found.append(
            {
                "name": name,
                "header": [column.header for column in kept],
                "numeric": [table.is_numeric(column) for column in kept],
                "rows": [row[1:] for row in table.rows],
                "figures": [_layer_bars(one), *([_layer_roofline(one)] if layer_points(one) else [])],
            }
        )
    return found


def _figures(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    hover = _hover_texts(measurements)
    figures = [
        _figure(f"{panel.title} {panel.y_label} against {panel.x_label}", _traces(panel, hover), panel)
        for panel in tradeoff_panels(measurements)
    ]
    panel, roofs = roofline_panel(measurements)
    if panel.points:
        roofline = _figure(panel.title, [*_roof_traces(roofs, panel.points), *_traces(panel, hover)], panel)
        figures.append(_logarithmic(roofline, roofs))
    if any(one.stages for one in measurements):
        figures.append(_stages(measurements))
    if any(one.batches for one in measurements):
        figures.append(_batches(measurements))
    return figures


def _figure(title: str, traces: list[dict[str, Any]], panel: Panel | None = None, **layout: Any) -> dict[str, Any]:
    axes = {"xaxis": _axis(panel.x_label), "yaxis": _axis(panel.y_label)} if panel else {}
    if panel and panel.y_limits:
        axes["yaxis"] |= {"minallowed": panel.y_limits[0], "maxallowed": panel.y_limits[1]}
    return {"title": title, "data": traces, "layout": {"showlegend": False, **axes, **layout}}


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": _escaped(title)}, **more}


def _logarithmic(figure: dict[str, Any], roofs: Sequence[Roof]) -> dict[str, Any]:
    """Plain numbers at 1, 2 and 5 of each decade, at 1 only where the decades are many; what the roofs mean below."""
    for axis in ("xaxis", "yaxis"):
        values = [value for trace in figure["data"] for value in trace[axis[0]]]
        decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
        digits = (1, 2, 5) if len(decades) < 6 else (1,)
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        figure["layout"][axis] |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return figure | ({"note": ROOF_NOTE} if roofs else {})


def _traces(panel: Panel, hover: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": _escaped(point.label),
            "x": [point.x],
            "y": [point.y],
            "error_x": _errors(point.x, point.x_interval),
            "error_y": _errors(point.y, point.y_interval),
            "marker": {"size": 12, "color": _colour(point.place), "symbol": _shape(point.place)[0]},
            "hoverinfo": "none",
            "hovertext": hover[point.place],
        }
        for point in panel.points
    ]


def _errors(middle: float, interval: tuple[float, float] | None) -> dict[str, Any]:
    if interval is None:
        return {"visible": False}
    low, high = interval
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, high - middle)],
        "arrayminus": [max(0.0, middle - low)],
        "thickness": 1.2,
        "width": 3,
    }


def _roof_traces(roofs: Sequence[Roof], points: Sequence[Point]) -> list[dict[str, Any]]:
    traces = []
    for roof in roofs:
        ridge = roof.gflop_per_s / roof.gbyte_per_s
        ends = [ridge / 4, ridge * 4, *(point.x / 1.6 for point in points), *(point.x * 1.6 for point in points)]
        x = [min(ends), ridge, max(ends)]
        text = f"{roof.label}: {roof.gflop_per_s:.4g} GFLOP/s, {roof.gbyte_per_s:.4g} GB/s"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": x,
                "y": [min(roof.gflop_per_s, each * roof.gbyte_per_s) for each in x],
                "line": {"color": INK, "width": 1.5},
                "hoverinfo": "none",
                "hovertext": text,
            }
        )
    return traces


def _layer_roofline(one: Measurement) -> dict[str, Any]:
    layers = sorted(layer_points(one), key=lambda layer: -layer.share)
    points = [Point(0, layer.path, layer.flops_per_byte, layer.gflop_per_s, None, None) for layer in layers]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [float(f"{point.x:.4g}") for point in points],  # hundreds of them: long numbers are much of the page
        "y": [float(f"{point.y:.4g}") for point in points],
        "marker": {
            "size": [round(max(4.0, 70 * math.sqrt(layer.share)), 1) for layer in layers],
            "color": COLOURS[0],
            "opacity": 0.55,
        },
        "hoverinfo": "none",
        "hovertext": [
            f"{layer.path or '(model)'} {layer.kind}: {layer.share:.1%} of the time, "
            f"{layer.flops_per_byte:.4g} FLOP/byte, {layer.gflop_per_s:.4g} GFLOP/s"
            for layer in layers
        ],
    }
    roofs = roofline_panel([one])[1]
    traces = [*_roof_traces(roofs, points), dots]
    title = "Roofline of the layers; area is the share of the time"
    return _logarithmic(_figure(title, traces, xaxis=_axis("FLOP/byte"), yaxis=_axis("GFLOP/s")), roofs)


def _layer_bars(one: Measurement) -> dict[str, Any]:
    """Shares of the whole, so that time, multiply-adds and memory access stand beside each other."""
    groups = group_layers(one)
    names = [group.label for group in groups]
    rows = [_escaped(name) for name in names]
    series = {
        "time": [group.time_ms or 0.0 for group in groups],
        "multiply-adds": [float(group.multiply_adds) for group in groups],
        "memory access": [float(group.memory_access_cost + group.other_elements) for group in groups],
    }
    traces = []
    for (name, values), colour in zip(series.items(), (COLOURS[1], COLOURS[0], COLOURS[2]), strict=True):
        if whole := sum(values):
            shares = [value / whole for value in values]
            texts = [f"{label}: {share:.1%} of the {name}" for label, share in zip(names, shares, strict=True)]
            bars = {"x": shares, "y": rows, "marker": {"color": colour}, "hoverinfo": "none", "hovertext": texts}
            traces.append({"type": "bar", "orientation": "h", "name": name, **bars, "textposition": "none"})
    return _figure(
        "Where it goes, layer by layer",
        traces,
        showlegend=True,
        legend={"orientation": "h", "traceorder": "normal", "yanchor": "bottom", "y": 1},
        height=160 + 26 * len(groups),
        bargap=0.25,
        xaxis=_axis("Share of the whole model", tickformat=".0%"),
        yaxis={"autorange": "reversed", "automargin": True, "type": "category", "dtick": 1},
    )


def _stages(measurements: Sequence[Measurement]) -> dict[str, Any]:
    known = [(name, one.stages) for name, one in zip(labels(measurements), measurements, strict=True) if one.stages]
    stages = list(dict.fromkeys(stage for _, times in known for stage in times))
    rows = [_escaped(name) for name, _ in known]
    traces = []
    for place, stage in enumerate(stages):
        times_ms = [times[stage].median_ms if stage in times else 0.0 for _, times in known]
        texts = [f"{name}, {stage}: {time_ms:.4g} ms" for (name, _), time_ms in zip(known, times_ms, strict=True)]
        bars = {"x": times_ms, "y": rows, "marker": {"color": _colour(place)}, "hoverinfo": "none", "hovertext": texts}
        traces.append({"type": "bar", "orientation": "h", "name": _escaped(stage), "textposition": "none", **bars})
    return _figure(
        "From file to picture",
        traces,
        barmode="stack",
        showlegend=True,
        legend={"orientation": "h", "traceorder": "normal", "yanchor": "bottom", "y": 1},
        xaxis=_axis("median time (ms)"),
        yaxis={"autorange": "reversed", "automargin": True, "type": "category"},
    )


def _batches(measurements: Sequence[Measurement]) -> dict[str, Any]:
    traces = []
    for place, (one, name) in enumerate(zip(measurements, labels(measurements), strict=True)):
        if batches := sweep(one):
            speeds = {size: 1e3 * size / latency.median_ms for size, latency in batches.items()}
            slow, fast = zip(*(_speeds(size, latency) for size, latency in batches.items()), strict=True)
            texts = [f"{name}, batch {size}: {speed:.4g} images/s" for size, speed in speeds.items()]
            look = {"color": _colour(place), "symbol": _shape(place)[0], "size": 9}
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "x": list(speeds),
                    "y": list(speeds.values()),
                    "error_y": {
                        "type": "data",
                        "symmetric": False,
                        "array": [end - speed for end, speed in zip(fast, speeds.values(), strict=True)],
                        "arrayminus": [speed - end for end, speed in zip(slow, speeds.values(), strict=True)],
                        "thickness": 1.2,
                        "width": 3,
                    },
                    "line": {"color": _colour(place)},
                    "marker": look,
                    "hoverinfo": "none",
                    "hovertext": texts,
                }
            )
    sizes = sorted({size for one in measurements for size in sweep(one)})
    return _figure(
        "Images/s against batch size",
        traces,
        xaxis=_axis("batch size", type="log", tickvals=sizes),
        yaxis=_axis("images/s", rangemode="tozero"),
    )


def _speeds(size: int, latency: Latency) -> tuple[float, float]:
    fast_ms, slow_ms = latency.interval_ms
    return 1e3 * size / slow_ms, 1e3 * size / fast_ms


def _hover_texts(measurements: Sequence[Measurement]) -> list[str]:
    """All figures of each model, in lines."""
    model, *others = [column for column in columns(measurements) if column.group or column.name == "model"]
    texts = []
    for one in measurements:
        lines = [f"{column.header}: {column.text(one)}" for column in others if column.value(one) is not None]
        texts.append("\n".join([model.text(one), *lines]))
    return texts


def _escaped(text: str) -> str:
    """Plotly reads a few tags in legends and on axes; in hovertext, which the page shows itself, there are none."""
    return html.escape(text, quote=False)


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)].replace("#000000", INK)


def _shape(place: int) -> tuple[str, str]:
    """Plotly's name of it, and the path that draws it."""
    return list(SHAPES.items())[place % len(SHAPES)]
