"""Reports for people: one HTML file that needs no network, made of sections, tables and plots.

`page` lays it out, `plots` draws. Both need the extra `evaluate` (jinja2, matplotlib), which is
imported when a report is made.
"""

from neuralrank.report.page import Cell, Column, Report, Section, Table, writable
from neuralrank.report.plots import Plot, bars, lines, points

__all__ = [
    "Cell", "Column", "Plot", "Report", "Section", "Table", "bars", "lines", "points", "writable",
]  # fmt: skip
