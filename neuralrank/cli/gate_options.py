"""The flags of the gate, for the commands that send a candidate through it."""

from pathlib import Path
from typing import Annotated, Final

import typer

__all__ = ["GATE", "JudgedBy", "Margin", "MaxP", "MinGain", "MinQueries", "MinSize"]

GATE: Final = "Gate"

JudgedBy = Annotated[
    Path | None,
    typer.Option(
        metavar="DATASET",
        help="A dataset of judgments, whose test part says what is relevant; the clicks of logged "
        "pages are those of the other dataset. Default: that says both.",
        rich_help_panel=GATE,
    ),
]
MinGain = Annotated[
    float,
    typer.Option(min=0, max=1, help="nDCG@10 must rise by more than this.", rich_help_panel=GATE),
]
MaxP = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="… with at most this p (paired randomisation test). 1: any.",
        rich_help_panel=GATE,
    ),
]
MinQueries = Annotated[
    int,
    typer.Option(
        min=1,
        help="… measured on so many queries (personal ranker: lists) or more.",
        rich_help_panel=GATE,
    ),
]
Margin = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Share of its value that the clicks estimate, each segment, and what old test parts "
        "say, may lose.",
        rich_help_panel=GATE,
    ),
]
MinSize = Annotated[
    int,
    typer.Option(
        min=1, help="Segments with fewer queries or pages are not looked at.", rich_help_panel=GATE
    ),
]
