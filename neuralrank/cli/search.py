"""`neuralrank search`, `recommend`, `similar` and `look`: through OpenSearch and its pipeline, as
an application would."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from opensearchpy import OpenSearch

from neuralrank.cli import results
from neuralrank.cli.config_folder import config_folder
from neuralrank.cli.json_output import print_json
from neuralrank.client import Client
from neuralrank.console import table_console
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.limits import MAX_QUERY
from neuralrank.opensearch.conditions import conditions, filtered
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.packing import IMAGE_VECTOR
from neuralrank.opensearch.page import NO_PIPELINE, PIPELINE, Page, ask
from neuralrank.settings import load_settings
from opensearch_config import lexical_query

__all__ = ["look", "recommend", "search", "similar"]

# Ranks the hits of the query and adds none: what looks like a photo is what was asked for.
_RANK_ONLY = "neural_rank_only"
# Neighbours that are searched for, at least: few more than the page would leave nothing to rank.
_LEAST_NEIGHBOURS = 100
# OpenSearch's `index.max_result_window`: from + size beyond it is refused there.
_MAX_WINDOW = 10_000


def _not_empty(name: str) -> str:
    # OpenSearch takes no name for every index, and no id for no document at all.
    if not name.strip():
        raise InvalidInput(f"Got the name {name!r}; give that of an index, or the id of an item.")
    return name


Index = Annotated[
    str, typer.Argument(metavar="NAME", help="The index or alias.", callback=_not_empty)
]
User = Annotated[
    str,
    typer.Option("--user", "-u", help="Who asks: `user_id` in ubi_events. Unknown: not personal."),
]
Size = Annotated[int, typer.Option(min=1, max=1000, help="Hits on the page.")]
Start = Annotated[int, typer.Option("--from", min=0, help="Hits to skip.")]
Explain = Annotated[bool, typer.Option("--explain", help="Each score in numbers and its reason.")]
ExplainedJson = Annotated[
    bool, typer.Option("--json", help="Print JSON, explained, and nothing else.")
]
Rule = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="NAME=VALUE",
        help="Only items with this attribute (brand and category count too); NAME!=VALUE: only "
        "without. Again for more: all must hold.",
    ),
]
InStock = Annotated[bool, typer.Option("--in-stock", help="Leave out what is out of stock.")]
MinPrice = Annotated[float | None, typer.Option(min=0, help="Leave out what costs less.")]
MaxPrice = Annotated[float | None, typer.Option(min=0, help="Leave out what costs more.")]
Diversity = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="How much of the score it is to be unlike the hits above. Default: the "
        "pipeline's.",
    ),
]  # fmt: skip


def search(
    name: Index,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to search for.")],
    user: User = "",
    size: Size = 10,
    start: Start = 0,
    explain: Explain = False,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Beside it: lexical order, and with vectors but no user."),
    ] = False,
    rules: Rule = None,
    in_stock: InStock = False,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    diversity: Diversity = None,
    exclude_purchased: Annotated[
        bool, typer.Option("--exclude-purchased", help="Leave out what the user has bought.")
    ] = False,
    as_json: ExplainedJson = False,
) -> None:
    """Searches an index; the page comes back re-ranked for the user.

    Example: neuralrank search examples 电脑 --user A --explain

    A sidecar that is down is no error: standard error says so, and the order is OpenSearch's own.
    """
    check_query(query)
    check_window(start, size)
    lexical = lexical_query(query, config_folder())
    options = request_options(
        user=user,
        explain=explain or compare or as_json,
        filters=filters(rules or (), in_stock, min_price, max_price, exclude_purchased),
        diversity=diversity,
    )
    with closing(connect(load_settings())) as client:
        clauses, options = bound(client, name, options)
        lexical = filtered(lexical, clauses)

        def page(options: dict[str, Any] | None, pipeline: str = PIPELINE) -> Page:
            return ask(
                client,
                name,
                lexical,
                options,
                text=query,
                size=size,
                start=start,
                pipeline=pipeline,
            )

        ranked = page(options)
        if not compare:
            output(ranked, explain=explain, as_json=as_json, start=start)
            return
        # The same filters, so that what differs is the order alone. Lexical has none of those that
        # are the sidecar's.
        recalled = {**options, "bundle": "none"}
        recalled.pop("user_id", None)
        pages = {
            "lexical": page(None, NO_PIPELINE),
            "with_vectors": page(recalled),
            "reranked": ranked,
        }
    results.warn_degraded(ranked)
    if as_json:
        print_json({heading: each.json() for heading, each in pages.items()})
        return
    headings = ("lexical", "recall with vectors", f"re-ranked for {user or 'nobody'}")
    results.side_by_side(table_console(), list(zip(headings, pages.values(), strict=True)))


def recommend(
    name: Index,
    user: Annotated[str, typer.Option("--user", "-u", help="For whom: `user_id` in ubi_events.")],
    size: Size = 10,
    start: Start = 0,
    explain: Explain = False,
    rules: Rule = None,
    in_stock: InStock = False,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    diversity: Diversity = None,
    include_purchased: Annotated[
        bool, typer.Option("--include-purchased", help="Also what the user has bought already.")
    ] = False,
    as_json: ExplainedJson = False,
) -> None:
    """Recommends items to a user, by what they viewed and bought. What they bought is left out.

    Example: neuralrank recommend examples --user B
    """
    if not user.strip():
        raise InvalidInput("--user is empty. Name the user whose events ubi_events holds.")
    options = request_options(
        user=user,
        explain=explain or as_json,
        filters=filters(rules or (), in_stock, min_price, max_price, not include_purchased),
        diversity=diversity,
    )
    everything(name, options, size, start, explain=explain, as_json=as_json)


def similar(
    name: Index,
    item: Annotated[
        str, typer.Argument(metavar="ITEM", help="The id of the item.", callback=_not_empty)
    ],
    user: User = "",
    size: Size = 10,
    start: Start = 0,
    explain: Explain = False,
    rules: Rule = None,
    in_stock: InStock = False,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    diversity: Diversity = None,
    as_json: ExplainedJson = False,
) -> None:
    """Finds items like one that is in the index; with --user, in the user's order.

    Example: neuralrank similar examples head-sony-xm5
    """
    options = request_options(
        user=user,
        explain=explain or as_json,
        filters=filters(rules or (), in_stock, min_price, max_price, False),
        diversity=diversity,
    )
    with closing(connect(load_settings())) as client:
        # An id that is not there would give a page of anything; NotFound says it instead.
        client.get(index=name, id=item, params={"_source": "false"})
    everything(name, {**options, "similar_to": item}, size, start, explain=explain, as_json=as_json)


def look(
    name: Index,
    photo: Annotated[
        Path,
        typer.Argument(metavar="PHOTO", help="JPEG, PNG, WebP, GIF or BMP."),
    ],
    user: User = "",
    size: Size = 10,
    start: Start = 0,
    explain: Explain = False,
    rules: Rule = None,
    in_stock: InStock = False,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    diversity: Diversity = None,
    as_json: ExplainedJson = False,
) -> None:
    """Finds items that look like a photo; with --user, in the user's order.

    Example: neuralrank look shop photo.jpg

    The index needs vectors of photos: neuralrank index --image-encoder.
    """
    check_window(start, size)
    try:
        image = photo.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {photo}. Name a photo.") from error
    except OSError as error:
        raise InvalidInput(f"{photo} can't be read: {error.strerror or error}.") from error
    settings = load_settings()
    with Client.of(settings) as client:
        (vector,) = client.encode(images=[image], index=name)
    options = request_options(
        user=user,
        explain=explain or as_json,
        filters=filters(rules or (), in_stock, min_price, max_price, False),
        diversity=diversity,
    )
    near: dict[str, Any] = {
        "vector": vector.tolist(),
        "k": max(_LEAST_NEIGHBOURS, start + size),
    }
    query = {"knn": {IMAGE_VECTOR: near}}
    with closing(connect(settings)) as opened:
        clauses, options = bound(opened, name, options)
        if clauses:
            near["filter"] = {"bool": {"filter": clauses}}
        # Nearness alone orders them where nobody asks and the sidecar leaves nothing out.
        pipeline = _RANK_ONLY if options.keys() - {"explain"} else NO_PIPELINE
        page = ask(opened, name, query, options, size=size, start=start, pipeline=pipeline)
    output(page, explain=explain, as_json=as_json, start=start)


def everything(
    name: str, options: dict[str, Any], size: int, start: int, *, explain: bool, as_json: bool
) -> None:
    """One page without query text: what it holds is up to the user's or the item's vector."""
    check_window(start, size)
    with closing(connect(load_settings())) as client:
        clauses, options = bound(client, name, options)
        query = filtered({"match_all": {}}, clauses)
        page = ask(client, name, query, options, size=size, start=start)
    output(page, explain=explain, as_json=as_json, start=start)


def output(page: Page, *, explain: bool, as_json: bool, start: int = 0) -> None:
    results.warn_degraded(page)
    if as_json:
        print_json(page.json())
    else:
        results.show(table_console(), page, explain=explain, start=start)


def bound(
    client: OpenSearch, name: str, options: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The conditions of the query that keep what is not to be shown from being found, and the
    options with those filters that are no such conditions."""
    clauses, left = conditions(client, name, options.get("filters", {}))
    others = {key: value for key, value in options.items() if key != "filters"}
    return clauses, {**others, **({"filters": left} if left else {})}


def request_options(
    *, user: str, explain: bool, filters: dict[str, Any], diversity: float | None = None
) -> dict[str, Any]:
    """`ext.neural_rank` with only what was asked for."""
    options: dict[str, Any] = {}
    if user:
        options["user_id"] = user
    if explain:
        options["explain"] = True
    if filters:
        options["filters"] = filters
    if diversity is not None:
        options["weights"] = {"diversity": diversity}
    return options


def filters(
    rules: Iterable[str],
    in_stock: bool,
    min_price: float | None,
    max_price: float | None,
    exclude_purchased: bool,
) -> dict[str, Any]:
    """`ext.neural_rank.filters` with only what was asked for.

    Raises:
        InvalidInput: a rule is not NAME=VALUE or NAME!=VALUE, or the prices cross.
    """
    if min_price is not None and max_price is not None and min_price > max_price:
        raise InvalidInput(
            f"--min-price {min_price:g} is above --max-price {max_price:g}, so nothing passes. "
            "Swap them."
        )
    given: dict[str, Any] = {
        "exclude_purchased": exclude_purchased or None,
        "in_stock_only": in_stock or None,
        "min_price": min_price,
        "max_price": max_price,
        "attributes": [attribute_rule(rule) for rule in rules] or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def attribute_rule(text: str) -> dict[str, Any]:
    """`color=black` keeps, `color!=black` drops."""
    name, sign, value = text.partition("=")
    exclude = name.endswith("!")
    name = name.removesuffix("!").strip()
    if not (sign and name and value.strip()):
        raise InvalidInput(
            f"--filter {text!r} can't be read; allowed are NAME=VALUE and NAME!=VALUE, such as "
            "color=black or brand!=Dell."
        )
    return {"name": name, "values": [value.strip()], "exclude": exclude}


def check_query(query: str) -> None:
    """
    Raises:
        InvalidInput: it is empty or too long.
    """
    if not query.strip():
        raise InvalidInput(
            "The query is empty. Type what to search for, or use `neuralrank recommend` for a "
            "list without a query."
        )
    if len(query) > MAX_QUERY:
        raise InvalidInput(
            f"The query has {len(query):,} characters; at most {MAX_QUERY:,} are allowed. "
            "Shorten it."
        )


def check_window(start: int, size: int) -> None:
    if start + size > _MAX_WINDOW:
        raise InvalidInput(
            f"--from {start} and --size {size} end at hit {start + size}; OpenSearch serves the "
            f"first {_MAX_WINDOW:,}. Narrow the query instead."
        )
