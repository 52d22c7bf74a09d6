"""`neuralrank train update`: learns on what arrived since the last time, once or on a schedule."""

import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from neuralrank.bundles.registry import Registry
from neuralrank.cli.gate_options import GATE, Margin, MaxP, MinGain, MinQueries, MinSize
from neuralrank.cli.json_output import print_json_line
from neuralrank.cli.registry_options import RegistryUrl
from neuralrank.cli.train import train
from neuralrank.cli.train.options import OnlyItemsOf, training_flags
from neuralrank.errors import InvalidInput, InvalidSettings
from neuralrank.progress import tracked
from neuralrank.settings import load_settings

if TYPE_CHECKING:
    from trainer.gate import Rules
    from trainer.loop import TrainingOptions
    from trainer.update.kinds import Kind
    from trainer.update.rounds import Stages
    from trainer.update.state import Round

__all__ = ["update"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@train.command()
@training_flags(epochs=0.0)
def update(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Of the bundles: what serves under it is trained further. A cross-encoder or a "
            "personal ranker.",
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
    loss: Annotated[
        str,
        typer.Option(help="Of a cross-encoder: bce (the default), pairwise or lambda."),
    ] = "",
    replay: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the examples that are remembered ones.")
    ] = 0.5,
    memory: Annotated[
        int,
        typer.Option(min=1, help="The most queries (personal ranker: users) that are remembered."),
    ] = 5_000,
    dev: Annotated[float, typer.Option(help="Share of a window's pages in dev.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of a window's pages in test.")] = 0.2,
    encoder: Annotated[
        str,
        typer.Option(
            metavar="REF",
            help="For a cross-encoder's hard negatives; none: by BM25 alone. A personal ranker "
            "names its own.",
        ),
    ] = "",
    id_events: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of a personal ranker: items with so many events get an embedding of their id, "
            "beside those that have one. 0: no more. Default: 5.",
            show_default=False,
        ),
    ] = None,
    judgments: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="Of a cross-encoder: a dataset of judgments, whose test part measures every "
            "round. Default: the clicks of the window's own test part.",
            rich_help_panel=GATE,
        ),
    ] = None,
    min_gain: MinGain = 0.0,
    max_p: MaxP = 1.0,
    min_queries: MinQueries = 5,
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

    Examples: neuralrank train update my-ranker --catalogue products.jsonl --out learning --every 1h

              neuralrank train update personal-ranker --catalogue products.jsonl --out habits

    Ctrl-C at any point: the same command goes on where it was. With --every, a round that fails
    (OpenSearch is down, nobody clicked) is tried again at its next time. What was forgotten of
    earlier test parts is reported, and keeps a candidate out if it is more than --margin. Where
    --epochs is 0, a cross-encoder has 1 and a personal ranker 10.
    """
    from trainer.dataset.splits import Shares
    from trainer.feedback.pull import moment
    from trainer.gate import Rules
    from trainer.update.rounds import Learner, Options

    interval = _seconds("--every", every) if every else 0.0
    if every and not interval:
        raise InvalidInput(f"--every got {every!r}; allowed is more than nothing, as 30m.")
    settings = load_settings(registry=registry)
    found = Registry(settings.registry_path)
    options = Options(replay, memory, promote, lag=_seconds("--lag", lag))
    begin = moment(since, datetime.now(UTC), "--from").isoformat()
    rules = Rules(
        min_gain=min_gain, max_p=max_p, min_queries=min_queries, margin=margin, min_size=min_size
    )
    served = found.manifest(found.resolve(name)).kind
    common = {
        "settings": settings, "registry": found, "catalogue": catalogue, "index": index,
        "shares": Shares(dev, test), "training": training,
    }  # fmt: skip
    kind, stages = _learned(served, rules, common, loss, encoder, judgments, id_events)
    learner = Learner(training.out, name, begin, stages, found, kind, options)

    def say(done: "Round") -> None:
        forgotten = done.forgotten
        if as_json:
            row = {**done.model_dump(mode="json"), "forgotten": forgotten}
            print_json_line(row)
            return
        typer.echo(_words(done))

    learner.run(interval, done=say, failed=_failed)


def _learned(
    kind: str, rules: "Rules", common: Mapping[str, Any], loss: str, encoder: str,
    judgments: Path | None, id_events: int | None,
) -> "tuple[Kind, Stages]":  # fmt: skip
    """How bundles of a kind learn on.

    Args:
        common: what stages of all kinds have.

    Raises:
        InvalidInput: they don't.
        InvalidSettings: an option is of another kind.
    """
    from neuralrank.cli.train.update_stages import PersonalStages, TextStages
    from trainer.dataset import Dataset
    from trainer.update.kinds import OfTexts, OfUsers

    registry = common["registry"]
    match kind:
        case "cross_encoder":
            _refuse(kind, {"--id-events": id_events})
            judged = Dataset.open(judgments) if judgments else None
            made = TextStages(**common, loss=loss or "bce", encoder=encoder)
            return OfTexts(registry, rules, tracked, judged), made
        case "personal_ranker":
            _refuse(kind, {"--loss": loss, "--encoder": encoder, "--judgments": judgments})
            personal = PersonalStages(**common, id_events=5 if id_events is None else id_events)
            return OfUsers(registry, rules, common["settings"].item_vectors), personal
    raise InvalidInput(
        f"What serves is of kind {kind}; allowed are cross_encoder and personal_ranker. A new "
        "encoder needs every vector of the index anew: `neuralrank train encoder`, then "
        "`neuralrank reencode`."
    )


def _refuse(kind: str, given: Mapping[str, object]) -> None:
    for flag, value in given.items():
        if value not in (None, ""):
            raise InvalidSettings(f"{flag} got {value}; what serves is a {kind}. Leave it out.")


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
