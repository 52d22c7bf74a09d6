"""`neuralrank train update`: learns on what arrived since the last time, once or on a schedule."""

import re
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from neuralrank.cli.gate_options import GATE, Margin, MaxP, MinGain, MinSize
from neuralrank.cli.registry_options import RegistryUrl
from neuralrank.cli.train import train
from neuralrank.cli.train.options import OnlyItemsOf, training_flags
from neuralrank.errors import InvalidInput
from neuralrank.opensearch import connect
from neuralrank.progress import tracked
from neuralrank.registry import Registry
from neuralrank.settings import Settings, load_settings

if TYPE_CHECKING:
    from trainer.loop import TrainingOptions
    from trainer.update.state import Round
    from trainer.update.window import Window

__all__ = ["update"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@train.command()
@training_flags(epochs=1.0)
def update(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Of the bundles: what serves under it is trained further."
        ),
    ],
    training: "TrainingOptions",
    catalogue: Annotated[
        Path, typer.Option(metavar="FILE", help="The products, as for `neuralrank index`.")
    ],
    since: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Where the first round begins: ISO 8601 in UTC, or now-30d (m, h, d, w). Later "
            "ones begin where the last ended.",
        ),
    ] = "now-30d",
    every: Annotated[
        str,
        typer.Option(metavar="TIME", help="A round every so often, as 30m, 1h, 1d. Default: once."),
    ] = "",
    lag: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="A round ends so long before now, as 10m, 1h, 1d, and reads what came of its "
            "pages up to now: how long clicks and purchases, and the index, may take. 0s: none.",
        ),
    ] = "10m",
    index: OnlyItemsOf = "",
    loss: Annotated[str, typer.Option(help="bce, pairwise or lambda.")] = "bce",
    replay: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the examples that are remembered ones.")
    ] = 0.5,
    memory: Annotated[
        int, typer.Option(min=1, help="The most queries that are remembered.")
    ] = 5_000,
    dev: Annotated[float, typer.Option(help="Share of a window's pages in dev.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of a window's pages in test.")] = 0.2,
    encoder: Annotated[
        str, typer.Option(metavar="REF", help="For hard negatives; none: by BM25 alone.")
    ] = "",
    judgments: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="A dataset of judgments, whose test part measures every round. Default: the "
            "clicks of the window's own test part.",
            rich_help_panel=GATE,
        ),
    ] = None,
    min_gain: MinGain = 0.0,
    max_p: MaxP = 1.0,
    margin: Margin = 0.02,
    min_size: MinSize = 10,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote/--no-promote",
            help="Whether a candidate that passes is put into service.",
            rich_help_panel=GATE,
        ),
    ] = True,
    registry: RegistryUrl = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each round, and nothing else.")
    ] = False,
) -> None:
    """Learns on: pulls what users did since the last time, mixes in what is remembered, fine-tunes
    the bundle in service, and promotes the result if it is better.

    Example: neuralrank train update my-ranker --catalogue products.jsonl --out learning --every 1h

    Ctrl-C at any point: the same command goes on where it was. With --every, a round that fails
    (OpenSearch is down, nobody clicked) is tried again at its next time. What was forgotten of
    earlier test parts is reported, and keeps a candidate out if it is more than --margin.
    """
    from trainer.dataset import Dataset
    from trainer.dataset.splits import Shares
    from trainer.feedback.pull import moment
    from trainer.gate import Rules
    from trainer.update.rounds import Learner, Options

    interval = _seconds("--every", every) if every else 0.0
    if every and not interval:
        raise InvalidInput(f"--every got {every!r}; allowed is more than nothing, as 30m.")
    settings = load_settings(registry=registry)
    found = Registry(settings.registry_path)
    options = Options(
        replay=replay,
        memory=memory,
        rules=Rules(min_gain=min_gain, max_p=max_p, margin=margin, min_size=min_size),
        promote=promote,
        judgments=Dataset.open(judgments) if judgments else None,
        lag=_seconds("--lag", lag),
    )
    stages = _Stages(settings, found, catalogue, index, loss, Shares(dev, test), encoder, training)
    learner = Learner(
        training.out,
        name,
        moment(since, datetime.now(UTC), "--from").isoformat(),
        stages,
        found,
        options,
        tracked,
    )

    def say(done: "Round") -> None:
        forgotten = done.forgotten
        if as_json:
            row = {**done.model_dump(mode="json"), "forgotten": forgotten}
            typer.echo(orjson.dumps(row).decode())
            return
        typer.echo(_words(done))

    learner.run(interval, done=say, failed=_failed)


@dataclass(frozen=True)
class _Stages:
    """Rounds on the logs of OpenSearch, for a cross-encoder."""

    settings: Settings
    registry: Registry
    catalogue: Path
    index: str
    loss: str
    shares: Any
    encoder: str
    training: "TrainingOptions"

    def pull(self, window: "Window", folder: Path) -> Mapping[str, int] | None:
        from trainer.update.window import pull_window

        with closing(connect(self.settings, timeout=120.0)) as client:
            return pull_window(client, window, folder, self.index)

    def dataset(self, logs: Path, folder: Path) -> None:
        from neuralrank.cli.train.dataset import finders
        from trainer.dataset.from_logs import LogOptions, from_logs
        from trainer.dataset.items import read_items
        from trainer.feedback import Logs

        items, headlines = read_items(self.catalogue)
        from_logs(
            Logs.open(logs),
            items,
            finders(items, headlines, self.encoder, _untold),
            LogOptions(shares=self.shares),
            f"logs: {logs}",
            _untold,
        ).write(folder)

    def train(self, dataset: Path, parent: str, folder: Path) -> str:
        from trainer.dataset import Dataset
        from trainer.text import read_source
        from trainer.text.reranker import RerankerOptions, train_reranker

        result = train_reranker(
            Dataset.open(dataset),
            read_source(parent, self.registry),
            RerankerOptions(loss=self.loss),  # type: ignore[arg-type]  # checked there
            replace(self.training, out=folder),
        )
        if result.bundle is None:
            raise InvalidInput("`train update` runs in one process; start it without torchrun.")
        return self.registry.publish(result.bundle, candidate=True).ref


def _untold(what: str, done: int, total: int) -> None:
    """Nobody watches a schedule."""


def _failed(error: Exception) -> None:
    print(f"neuralrank: the round failed and is tried again: {error}", file=sys.stderr)


def _words(done: "Round") -> str:
    if done.outcome == "nothing":
        return f"{done.since} to {done.until}: {done.reason}"
    measured = "not measured"
    if done.before is not None and done.after is not None:
        measured = f"nDCG@10 {done.before:.4f} → {done.after:.4f}"
    if done.forgotten is not None:
        measured += f", forgotten of old test parts {done.forgotten:+.4f}"
    service = "is in service" if done.outcome == "promoted" else "stays a candidate"
    return f"round {done.number}: {done.candidate} {service}. {measured}. {done.reason}"


def _seconds(flag: str, text: str) -> float:
    found = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if not found:
        raise InvalidInput(f"{flag} got {text!r}; allowed is a number of s, m, h or d, as 30m.")
    return float(int(found[1]) * _UNITS[found[2]])
