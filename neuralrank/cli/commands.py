"""Puts every subcommand on the `neuralrank` command, in the order that `--help` shows."""

from neuralrank.cli import (
    analyze,
    app,
    config,
    evaluate_group,
    experiment,
    explain,
    feedback,
    index,
    judge,
    models,
    rank,
    reencode,
    search,
    stack,
    train,
    tune,
)

__all__ = ["app"]

app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.add_typer(config.config, name="config")
app.add_typer(models.models, name="models")
app.command()(index.index)
app.command()(reencode.reencode)
app.add_typer(feedback.feedback, name="feedback")
app.command()(search.search)
app.command()(search.recommend)
app.command()(search.similar)
app.command()(search.look)
app.command()(rank.rank)
app.add_typer(evaluate_group.group, name="evaluate")
app.command()(tune.tune)
app.add_typer(experiment.experiment, name="experiment")
app.add_typer(judge.judge, name="judge")
app.command()(explain.explain)
app.command()(analyze.analyze)
app.add_typer(train.train, name="train")
