"""`neuralrank models promote | rollback | candidates`: what may serve, what does, and what does not
yet."""

import sys
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Column, Table

from neuralrank.bundles.bundle import parse_ref
from neuralrank.bundles.candidates import Candidate
from neuralrank.bundles.registry import Registry
from neuralrank.cli.gate_options import GATE, JudgedBy, Margin, MaxP, MinGain, MinQueries, MinSize
from neuralrank.cli.given import is_given
from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.cli.registry_options import RegistryUrl, open_registry, say_done
from neuralrank.console import table_console
from neuralrank.errors import EXIT_CODE, InvalidInput
from neuralrank.settings import load_settings

if TYPE_CHECKING:
    from trainer.gate import Rules

__all__ = ["candidates", "promote", "rollback"]

_TRIALS = "Trial"
# What says how to compare, and nothing where nothing is compared.
_OF_THE_GATE: Final = ("judgments", "min_gain", "max_p", "min_queries", "margin", "min_size")


def promote(
    context: typer.Context,
    ref: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@HASH]",
            help="What is to serve. Without hash: its newest bundle, and every newer one from then "
            "on.",
        ),
    ],
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="A folder of `neuralrank train dataset`: compare with the bundle in service on "
            "its test part, and promote if it is better.",
            rich_help_panel=GATE,
        ),
    ] = None,
    judgments: JudgedBy = None,
    min_gain: MinGain = 0.0,
    max_p: MaxP = 1.0,
    min_queries: MinQueries = 5,
    margin: Margin = 0.02,
    min_size: MinSize = 10,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="A candidate that has not passed, all the same. Needs --reason.",
            rich_help_panel=GATE,
        ),
    ] = False,
    reason: Annotated[
        str,
        typer.Option(help="Why it is forced; kept with the candidate.", rich_help_panel=GATE),
    ] = "",
    canary: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            metavar="PERCENT",
            help="Not all: for this share of users. 0 ends it.",
            rich_help_panel=_TRIALS,
        ),
    ] = None,
    shadow: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            metavar="PERCENT",
            help="For nobody yet: scores this share of requests a second time, for comparison. 0 "
            "ends it.",
            rich_help_panel=_TRIALS,
        ),
    ] = None,
    max_slowdown: Annotated[
        float | None,
        typer.Option(
            min=1, help="How many times slower than the one before it may be. Default: the sidecar."
        ),
    ] = None,
    registry: RegistryUrl = None,
    as_json: Json = False,
) -> None:
    """Puts a bundle into service; every sidecar of the registry follows within seconds.

    Examples: neuralrank models promote my-ranker@0f1e --dataset data --judgments judged

              neuralrank models promote my-ranker@0f1e --canary 5

              neuralrank models promote my-ranker

    A candidate, which is what a training publishes, must be better than the bundle in service
    (under its name, else the one that answers in its place) on held-back judgments, and not worse
    in the clicks that logged pages would have got, nor in any segment; else it stays a candidate,
    exit code 3, and `neuralrank models candidates` says why.
    Other bundles, put there by a person, need no proof. What serves already goes on serving, and
    what is known of it stays.
    """
    target = open_registry(registry)
    trials = {"canary": canary, "shadow": shadow}
    given = {role: share for role, share in trials.items() if share is not None}
    ways = [*(f"--{role}" for role in given), *_named(dataset=dataset is not None, force=force)]
    if len(ways) > 1:
        raise InvalidInput(f"{', '.join(ways)}: give one of them at a time.")
    if given and max_slowdown is not None:
        raise InvalidInput(f"{ways[0]} changes nothing that --max-slowdown could stop.")
    told = [name for name in _OF_THE_GATE if is_given(context, name)]
    if told and dataset is None:
        raise InvalidInput(
            f"{', '.join(_named(**dict.fromkeys(told, True)))}: without --dataset nothing is "
            "compared; give it, which has the logged pages."
        )
    if force != bool(reason.strip()):
        raise InvalidInput("--force needs --reason, and --reason goes with --force.")
    if not given and ways and not parse_ref(ref)[1]:
        raise InvalidInput(
            f"{ways[0]} is for one bundle, and {ref} follows the newest: name it by its hash, "
            "NAME@HASH (`neuralrank models candidates` lists them)."
        )
    if given:
        role, share = next(iter(given.items()))
        done = target.try_out(ref, "canary" if role == "canary" else "shadow", share)
        words = f"is the {role}, {share:g} %" if share else f"is no {role} any more"
        say_done(done, role, words, as_json)
        return
    if not parse_ref(ref)[1]:
        _check_newest(target, ref)
        say_done(
            target.promote(ref, max_slowdown=max_slowdown), "serving", "is in service", as_json
        )
        return
    full = target.resolve(ref)
    if _serves(target, full):
        # Pinned where it was only the newest; there is nothing to prove or to force.
        target.promote(full, max_slowdown=max_slowdown)
        words = "is in service already"
        if max_slowdown is not None:
            words += f", now up to {max_slowdown:g} times slower than what it takes the place of"
        say_done(full, "serving", words, as_json)
        return
    candidate = target.candidate(full)
    if force:
        candidate = (candidate or Candidate()).forced(reason.strip())
        target.record(full, candidate)
    elif dataset is not None:
        from trainer.gate import Rules

        rules = Rules(
            min_gain=min_gain,
            max_p=max_p,
            min_queries=min_queries,
            margin=margin,
            min_size=min_size,
        )
        candidate = _compared(target, full, dataset, judgments, rules)
    if candidate is None:
        target.promote(full, max_slowdown=max_slowdown)
    else:
        from trainer.gate import promoted

        try:
            promoted(target, full, candidate, max_slowdown)
        except InvalidInput as error:
            if as_json:
                print_json_line(_row(full, "candidate", candidate))
            print(f"neuralrank: {error}", file=sys.stderr)
            if not as_json and dataset is not None:
                _say_found(candidate, passed=False)
            raise typer.Exit(EXIT_CODE[InvalidInput]) from error
    say_done(full, "serving", "is in service", as_json)
    if candidate is not None and not as_json and dataset is not None:
        _say_found(candidate, passed=True)


def _say_found(candidate: Candidate, *, passed: bool) -> None:
    """On what it passed, and what was not looked at; why it did not is the error's."""
    from trainer.gate import TOO_SMALL

    if passed:
        typer.echo(candidate.reason)
    for check in candidate.checks:
        if check.name == TOO_SMALL:
            more = " … (all: `neuralrank models candidates --json`)"
            typer.echo(shorten(check.words, 1_000, placeholder=more), err=not passed)


def _named(**given: bool) -> list[str]:
    """As they are typed."""
    return [f"--{name.replace('_', '-')}" for name, there in given.items() if there]


def _serves(target: Registry, ref: str) -> bool:
    try:
        return target.serves(ref)
    except InvalidInput:  # a `serving.json` is damaged; a promotion writes it anew
        return False


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the bundles, without hash.")],
    registry: RegistryUrl = None,
    as_json: Json = False,
) -> None:
    """Puts the bundle that served before back into service, and keeps it there.

    Again: the one before that. New bundles then wait for `promote`. Before the first bundle of a
    name that was promoted over another name's, nothing of that name served.
    """
    done = open_registry(registry).rollback(name)
    if done:
        say_done(done, "serving", "is in service again", as_json)
    else:
        say_done(name, "none", "has no bundle in service again: another name answers", as_json)


def candidates(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Only those of this name.")] = "",
    registry: RegistryUrl = None,
    as_json: Json = False,
) -> None:
    """Lists bundles that had to show that they are better, and what was found.

    waiting: not compared yet. refused: it stays a candidate, and why. passed: it may serve, or
    does. forced: a person put it into service, and why.
    """
    target = open_registry(registry)
    if "@" in name:
        raise InvalidInput(f"NAME got {name!r}; allowed is a name without hash.")
    if name and name not in {parse_ref(ref)[0] for ref in target.refs()}:
        target.resolve(name)  # NotFound with a list, for a name that is not there
    found = target.candidates(name)
    rows = [_row(ref, "serving" if target.serves(ref) else "", found[ref]) for ref in found]
    if as_json:
        print_json_line(rows)
        return
    ref, against = Column("bundle", no_wrap=True), Column("against", overflow="fold")
    table = Table(ref, "outcome", "service", against, "compared", "why", box=None)
    for row in rows:
        when = str(row["compared"] or "")[:16].replace("T", " ")
        columns = (row["ref"], row["outcome"], row["service"], row["against"], when, row["reason"])
        table.add_row(*map(str, columns))
    table_console().print(table)
    if not rows:
        of = f"{name} in {target.url}" if name else target.url
        typer.echo(f"No bundle of {of} is or was a candidate.")


def _row(ref: str, service: str, candidate: Candidate) -> dict[str, object]:
    return {"ref": ref, "service": service, **candidate.model_dump(mode="json")}


def _compared(
    target: Registry, ref: str, dataset: Path, judgments: Path | None, rules: "Rules"
) -> Candidate:
    """
    Raises:
        InvalidInput: judgments are given for a personal ranker, or nothing is kept back.
    """
    from neuralrank.progress import tracked
    from trainer.dataset import Dataset
    from trainer.evaluation.evaluation import combined, held_back
    from trainer.gate import measured

    if target.manifest(ref).kind == "personal_ranker":
        if judgments is not None:
            raise InvalidInput(
                f"--judgments got {judgments}; {ref} is a personal ranker, which is judged by what "
                "users chose. Leave it out."
            )
        from trainer.personal import gate

        cache = load_settings().item_vectors
        return gate.measured(target, ref, Dataset.open(dataset), str(dataset), rules, cache)
    data = Dataset.open(dataset)
    if judgments is None:
        return measured(target, ref, held_back(data), str(dataset), rules, tracked)
    material = combined(data, Dataset.open(judgments))
    return measured(target, ref, material, f"{dataset}, {judgments}", rules, tracked)


def _check_newest(target: Registry, name: str) -> None:
    """Following the newest must not put a candidate into service that has not passed against what
    serves now.

    Raises:
        InvalidInput: the newest is one.
    """
    published = target.published(name)
    newest = f"{name}@{published[-1].hash}" if published else ""
    candidate = target.candidate(newest) if newest else None
    if candidate is None or _serves(target, newest):
        return
    from trainer.gate import require_passed

    try:
        require_passed(target, newest, candidate)
    except InvalidInput as error:
        raise InvalidInput(
            f"{name} can't follow its newest bundle. {error} Or name another by its hash, or "
            "remove this one first."
        ) from error
