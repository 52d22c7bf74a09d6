"""Puts every subcommand on the `neuralrank` command, in the order that `--help` shows."""

from neuralrank.cli import app, search, stack

__all__ = ["app"]

app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(search.search)
app.command()(search.recommend)
app.command()(search.similar)
