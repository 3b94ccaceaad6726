"""The interactive figures of a report, empty: `report.js` fills them from the page's data as readers choose."""

from typing import Any


def bars() -> dict[str, Any]:
    """Stacked verdict bars, one per cell in sight, as an item for `Bokeh.embed.embed_item`."""
    from bokeh.models import ColumnDataSource, HoverTool, Range1d
    from bokeh.plotting import figure

    fig = figure(name="bars", height=300, x_range=Range1d(0, 100), y_range=Range1d(-1, 1), **_frame())  # type: ignore
    names = ("left", "right", "y", "colour", "cell", "verdict", "count", "share", "interval")
    source = ColumnDataSource({name: [] for name in names}, name="bars-parts")
    parts = fig.hbar(left="left", right="right", y="y", height=0.42, color="colour", source=source)
    labels = ColumnDataSource({"y": [], "text": []}, name="bars-labels")
    fig.text(x=0, y="y", text="text", y_offset=-12, text_font_size="13px", text_color="#222222", source=labels)
    tips = [("cell", "@cell"), ("verdict", "@verdict"), ("runs", "@count"), ("share", "@share"), ("", "@interval")]
    fig.add_tools(HoverTool(renderers=[parts], tooltips=tips))
    fig.yaxis.visible = False
    fig.ygrid.visible = False
    fig.xaxis.axis_label = "share of runs (%)"
    return _item(fig)


def lines(log_x: bool) -> dict[str, Any]:
    """Curves with bands and points that tell their numbers, one per rule."""
    from bokeh.models import ColumnDataSource, DataRange1d, HoverTool
    from bokeh.plotting import figure

    kind = "log" if log_x else "linear"
    fig = figure(name="lines", height=380, x_axis_type=kind, y_range=DataRange1d(), **_frame())  # type: ignore
    band = ColumnDataSource({"xs": [], "ys": [], "colour": []}, name="lines-bands")
    fig.patches(xs="xs", ys="ys", fill_color="colour", fill_alpha=0.18, line_alpha=0, source=band)
    line = ColumnDataSource({"xs": [], "ys": [], "colour": [], "dash": []}, name="lines-lines")
    fig.multi_line(xs="xs", ys="ys", line_color="colour", line_dash="dash", line_width=2, source=line)
    names = ("x", "y", "colour", "rule", "place", "value", "interval", "count")
    source = ColumnDataSource({name: [] for name in names}, name="lines-points")
    points = fig.scatter(x="x", y="y", color="colour", size=6, source=source)
    tips = [("cell", "@rule"), ("at", "@place"), ("value", "@value"), ("band", "@interval"), ("runs", "@count")]
    fig.add_tools(HoverTool(renderers=[points], tooltips=tips))
    fig.grid.grid_line_alpha = 0.4
    return _item(fig)


def _frame() -> dict[str, Any]:
    """What all figures share. No tool takes the wheel or the finger that scrolls the page."""
    return {
        "sizing_mode": "stretch_width",
        "toolbar_location": None,
        "tools": "",
        "min_border_left": 16,
        "min_border_right": 16,
    }


def _item(fig: Any) -> dict[str, Any]:
    from bokeh.embed import json_item

    fig.outline_line_color = None
    return dict(json_item(fig))


def library() -> str:
    """The charting library as script elements."""
    from bokeh.resources import Resources

    return Resources(mode="inline", components=["bokeh"], log_level="error").render_js()
