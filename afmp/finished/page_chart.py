"""The chart of the sweep on the first page: a plot of Bokeh, whose data the page's script fills in."""

from collections.abc import Sequence

from bokeh.embed import json_item
from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LogTicker,
    NoOverlap,
    NumeralTickFormatter,
)
from bokeh.plotting import figure
from bokeh.themes import Theme

from afmp.figures.parts import palette

# The markers of the figures, by their names in Bokeh.
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus", "x", "star")
COLUMNS = ("model", "size", "patches", "low", "median", "high")
FONT = 'system-ui, "DejaVu Sans", sans-serif'
THEME = Theme(
    json={
        "attrs": {
            "Axis": {
                "axis_label_text_font": FONT,
                "axis_label_text_font_style": "normal",
                "axis_label_text_font_size": "13px",
                "major_label_text_font": FONT,
                "major_label_text_font_size": "13px",
                "minor_tick_line_color": None,
            },
            "Legend": {"label_text_font": FONT, "label_text_font_size": "14px", "border_line_color": None},
            "Plot": {"outline_line_color": None},
        }
    }
)


def empty_chart(models: Sequence[str], sizes: Sequence[int]) -> dict:
    """Return a chart against patches, both axes logarithmic, as JSON of Bokeh.

    Each model has an entry in the legend and a source with its name as a tag, whose `COLUMNS` are empty.
    sizes: all numbers of patches.
    """
    plot = figure(
        height=440,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        x_axis_type="log",
        y_axis_type="log",
        x_axis_label="patches per image",
    )
    plot.xaxis.ticker = FixedTicker(ticks=sorted(sizes))
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.xaxis.major_label_policy = NoOverlap()
    plot.yaxis.name = "quantity"
    plot.yaxis.ticker = LogTicker(mantissas=[1, 2, 5])
    plot.yaxis.formatter = NumeralTickFormatter(format="0,0.[00000]")
    plot.xgrid.visible = False
    points = []
    for number, model in enumerate(models):
        source = ColumnDataSource({column: [] for column in COLUMNS}, tags=[model])
        look = {"source": source, "color": palette.run_style(number)["color"], "legend_label": model}
        plot.line("patches", "median", line_width=2, **look)
        plot.segment("patches", "low", "patches", "high", line_width=2, **look)
        points.append(plot.scatter("patches", "median", size=9, marker=MARKERS[number % len(MARKERS)], **look))
    tip = "@model, @size{0,0} px: @median{%.4g}"
    plot.add_tools(HoverTool(renderers=points, tooltips=tip, formatters={"@median": "printf"}))
    plot.legend.name = "legend"
    plot.legend.location = "left"
    plot.add_layout(plot.legend[0], "below")
    return json_item(plot, theme=THEME)
