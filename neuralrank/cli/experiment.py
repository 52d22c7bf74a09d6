"""`neuralrank experiment`: which of two ways of ranking users like better, and how many to ask."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from neuralrank.cli.json_output import Json, print_json, print_json_line
from neuralrank.console import table_console
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.experiments import (
    Compared,
    Preferred,
    Skipped,
    Tally,
    read_pages,
    users_for_lift,
    users_for_preference,
)
from neuralrank.opensearch.connection import connect
from neuralrank.settings import load_settings

__all__ = ["experiment"]

# Below this, a difference is called one.
_ALPHA = 0.05
# More than there are people.
_MOST_USERS = 10**10

experiment = typer.Typer(
    help="Two ways of ranking compared on users: what the logs say, and how many users it takes.",
    no_args_is_help=True,
)
Power = Annotated[
    float, typer.Option(help="How often a difference as large is to be found where there is one.")
]
Alpha = Annotated[
    float, typer.Option(help="How often one may be found where there is none, two-sided.")
]


@experiment.command()
def report(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")],
    since: Annotated[
        str, typer.Option(help="Only from then on: ISO 8601, or date math such as now-7d.")
    ] = "",
    until: Annotated[str, typer.Option(help="Only until then.")] = "",
    as_json: Json = False,
) -> None:
    """Says which arm users like better, from ubi_queries and ubi_events.

    Example: neuralrank experiment report more-affinity --since 2026-11-01

    A/B: clicks, carts and purchases a page, and the share of pages with a click (ctr), as means
    over users; the difference with its 95% interval and p (Welch's t-test), and the users in each
    arm that it takes to tell a difference as large. Interleaving: how many users took more of
    either arm's items, and p (sign test). Events count by their query_id; each item once on a page.
    """
    tally, skipped = Tally(), Skipped()
    with closing(connect(load_settings(), timeout=120.0)) as client:
        tally.add(read_pages(client, name, skipped, since=since, until=until))
    compared, preferred = tally.compared(), tally.preferred()
    if tally.turncoats:
        skipped["users with pages of both arms"] = tally.turncoats
    if compared is None and preferred is None:
        raise NotFound(
            f"No page of the experiment {name!r} is in ubi_queries"
            + (f" ({since or 'the beginning'} to {until or 'now'})" if since or until else "")
            + ": "
            + " ".join(["query_attributes.experiment says which it is.", *_listed(skipped)])
        )
    if as_json:
        answer = {
            "experiment": name,
            "ab": compared and {**asdict(compared), "is_lopsided": compared.is_lopsided},
            "interleaved": preferred and asdict(preferred),
            "skipped": dict(skipped),
        }
        print_json(answer)
        return
    out = table_console()
    for table, lines in (
        *([(_ab_table(compared), _ab_words(compared))] if compared else ()),
        *([(_interleaved_table(preferred), _interleaved_words(preferred))] if preferred else ()),
    ):
        out.print(table)
        for line in lines:
            out.print(line, markup=False, highlight=False)
    for line in _listed(skipped):
        out.print(f"left out: {line}", markup=False, highlight=False)


@experiment.command()
def size(
    rate: Annotated[
        float | None,
        typer.Option(
            help="A/B: what arm A has, as a mean over users: 0.12 for a click on 12 % of the pages."
        ),
    ] = None,
    lift: Annotated[
        float | None,
        typer.Option(help="A/B: what is to be found: 0.05 for 5 % more than the rate."),
    ] = None,
    deviation: Annotated[
        float | None,
        typer.Option(
            help="A/B: the standard deviation over users. Default: the most that a share can have."
        ),
    ] = None,
    preference: Annotated[
        float | None,
        typer.Option(
            help="Interleaving, in the place of --rate and --lift: the share that prefers the "
            "better arm, among users who prefer one: 0.55."
        ),
    ] = None,
    power: Power = 0.8,
    alpha: Alpha = _ALPHA,
    as_json: Json = False,
) -> None:
    """Says how many users an experiment needs.

    Example: neuralrank experiment size --rate 0.12 --lift 0.05

    `neuralrank experiment report` says it for a difference as large as the one that is seen.
    """
    if preference is not None and (rate, lift, deviation) == (None, None, None):
        users = users_for_preference(preference, power=power, alpha=alpha)
        words = f"{users:,} users who take more of one arm's items than of the other's"
        answer: dict[str, Any] = {"mode": "interleave", "users": users}
    elif preference is None and rate is not None and lift is not None:
        users = users_for_lift(rate, lift, deviation=deviation, power=power, alpha=alpha)
        words = f"{users:,} users in each arm, {2 * users:,} in all"
        answer = {"mode": "ab", "users_in_each_arm": users, "users": 2 * users}
    else:
        raise InvalidInput(
            "Give --rate and --lift for an A/B test (--deviation may be added), or --preference "
            "for interleaving."
        )
    if users > _MOST_USERS:
        raise InvalidInput(
            f"That takes {users:.1e} users, more than there will ever be. Look for a larger "
            "difference."
        )
    if as_json:
        print_json_line(answer | {"power": power, "alpha": alpha})
    else:
        table_console().print(words, highlight=False)


def _ab_table(compared: Compared) -> Table:
    table = _table("per page", "A", "B", "B - A", "", "95%", "p", "users needed in each arm")
    for row in compared.differences:
        table.add_row(
            row.measure,
            _number(row.a, ".4f"),
            _number(row.b, ".4f"),
            _number(row.difference, "+.4f"),
            f"{row.difference / row.a:+.1%}" if row.difference is not None and row.a else "",
            _interval(row.low, row.high, "+.4f"),
            _p(row.p),
            _count(row.users_needed),
        )
    return table


def _ab_words(compared: Compared) -> Iterator[str]:
    users, pages = compared.users, compared.pages
    counts = (f"{users[n]:,} users with {pages[n]:,} pages in {arm}" for n, arm in enumerate("AB"))
    yield f"A/B: {', '.join(counts)}."
    yield from (f"{arm} has no users yet." for n, arm in enumerate("AB") if not users[n])
    if compared.is_lopsided:
        yield (
            f"Don't trust this: chance does not make halves as unequal (p {compared.halves_p:.1g})."
            " Pages of one arm are lost on the way to the logs; find out where."
        )
        return
    told = [row for row in compared.differences if row.p is not None and row.p < _ALPHA]
    for row in told:
        yield f"{'B' if (row.difference or 0) > 0 else 'A'} has more {row.measure} (p {_p(row.p)})."
    if not told:
        yield "No difference can be told from chance."


def _interleaved_table(preferred: Preferred) -> Table:
    table = _table(
        "on items", "of A", "of B", "prefer A", "prefer B", "share of B", "95%", "p",
        "such users needed",
    )  # fmt: skip
    for row in preferred.preferences:
        table.add_row(
            row.measure,
            f"{row.a:,}",
            f"{row.b:,}",
            f"{row.prefer_a:,}",
            f"{row.prefer_b:,}",
            "" if row.share is None else f"{row.share:.3f}",
            _interval(row.low, row.high, ".3f"),
            _p(row.p),
            _count(row.users_needed),
        )
    return table


def _interleaved_words(preferred: Preferred) -> Iterator[str]:
    yield f"Interleaved: {preferred.users:,} users, {preferred.pages:,} pages."
    told = [row for row in preferred.preferences if row.p is not None and row.p < _ALPHA]
    for row in told:
        better = "B" if (row.share or 0.0) > 0.5 else "A"
        yield f"Users prefer {better} by {row.measure} (p {_p(row.p)})."
    if not told:
        yield "No preference can be told from chance."


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _interval(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f"{low:{form}} to {high:{form}}"


def _p(p: float | None) -> str:
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def _count(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _listed(skipped: Skipped) -> list[str]:
    return [f"{count:,} {reason}." for reason, count in skipped.items()]
