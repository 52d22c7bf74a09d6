"""`neuralrank explain`: why a product stands where it stands, and what would lift it by one."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from neuralrank.bundles.bundle import calibrated
from neuralrank.bundles.registry import Registry
from neuralrank.cli import explained, search
from neuralrank.cli.analyze import mappings_of, product_source
from neuralrank.cli.config_folder import config_folder
from neuralrank.cli.json_output import print_json
from neuralrank.client import Client
from neuralrank.console import table_console
from neuralrank.errors import InvalidInput, NeuralrankError, NotFound
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.generation import noted
from neuralrank.opensearch.packing import PACKED, VECTOR, unpack
from neuralrank.opensearch.page import PIPELINE, Page, ask, in_time
from neuralrank.settings import Settings, load_settings
from neuralrank.standing import (
    Lexical,
    Nearness,
    Scored,
    State,
    Why,
    cosine_of,
    events_of,
    gap,
    knows,
    lacks,
    lexical,
    meetings,
    place,
    text_fields,
    vector_place,
)
from opensearch_config import lexical_query

__all__ = ["explain"]

# What `neural_recall` takes where the pipeline says nothing.
_WINDOW = _K = 100


def explain(
    name: search.Index,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What was searched for.")],
    item: Annotated[str, typer.Argument(metavar="ID", help="The product in question.")],
    user: Annotated[
        str, typer.Option("--user", "-u", help="Who asks: `user_id` in ubi_events.")
    ] = "",
    rules: search.Rule = None,
    in_stock: search.InStock = False,
    min_price: search.MinPrice = None,
    max_price: search.MaxPrice = None,
    exclude_purchased: Annotated[
        bool, typer.Option("--exclude-purchased", help="Leave out what the user has bought.")
    ] = False,
    pipeline: Annotated[
        str, typer.Option(metavar="PIPELINE", help="The search pipeline that ranks.")
    ] = PIPELINE,
    as_json: search.ExplainedJson = False,
) -> None:
    """Shows why a product stands where it stands, and what would lift it by one place.

    Example: neuralrank explain examples 电脑 B --user A

    Its place by words, by vector and after ranking; which terms met it and what each counted; the
    parts of its score with their weights, and what the user did that speaks for it; what the
    product above it has more of, and which part would have to be what. A product that is not
    among the candidates, or was dropped by a filter: why.
    """
    search.check_query(query)
    given = search.filters(rules or (), in_stock, min_price, max_price, exclude_purchased)
    options = search.request_options(user=user, explain=True, filters=given)
    settings = load_settings()
    with closing(connect(settings)) as client:
        why = _why(client, settings, name, query, item, pipeline, options)
    if as_json:
        print_json(why.json())
    else:
        explained.show(table_console(), why)


@dataclass(frozen=True, slots=True)
class _Recall:
    """What a pipeline recalls."""

    window: int
    # 0: no neighbours.
    k: int
    # Whether the parts of a score count by their places (`fusion: rrf`).
    by_place: bool


def _why(
    client: OpenSearch,
    settings: Settings,
    name: str,
    query: str,
    item: str,
    pipeline: str,
    options: dict[str, Any],
) -> Why:
    mappings = mappings_of(client, name)
    source = product_source(client, name, item)
    user = options.get("user_id", "")
    if user and not knows(client, user):
        raise NotFound(
            f"ubi_events holds nothing of user {user!r}. Name one that it knows, load events with "
            "`neuralrank feedback load`, or leave out --user."
        )
    recall = _recall(client, pipeline)
    words = lexical_query(query, config_folder())

    def sized(size: int) -> Page:
        return ask(client, name, words, options, text=query, size=size, pipeline=pipeline)

    page = in_time(sized(recall.window), lambda: sized(recall.window))
    state, page = _found(page, item, sized)
    scored = [
        Scored.of(hit.id, str(hit.source.get("title", "")), hit.score or 0.0, hit.parts)
        for hit in page.hits
    ]
    row = next((row for row, hit in enumerate(page.hits) if hit.id == item), None)
    parts = page.hits[row].parts if row is not None else {}
    met = tuple(meetings(client, name, text_fields(mappings.get("properties", {})), query, source))
    found = _lexical(client, name, words, item, met)
    by_words = place(client, name, words, found.score if found else None, recall.window)
    near = _nearness(client, settings, name, query, item, mappings, recall.k)
    ranked = row is not None and state == "ranked"
    return Why(
        query=query,
        user=user,
        index=name,
        id=item,
        title=str(source.get("title", "")),
        state=state,
        position=None if row is None else row + 1,
        candidates=int(page.report.get("candidates", len(page.hits))),
        window=recall.window,
        k=recall.k,
        scored=scored[row] if ranked and row is not None else None,
        parts=parts,
        lexical_place=by_words,
        lexical=found,
        vector=near,
        meetings=met,
        events=tuple(events_of(client, user, parts.get("because_of", ()))) if user else (),
        dropped=next((drop for drop in page.dropped if drop["id"] == item), None),
        gap=gap(scored[row], scored[row - 1], scored, by_place=recall.by_place)
        if ranked and row
        else None,
        below=scored[row + 1] if ranked and row is not None and row + 1 < len(scored) else None,
        lacks=lacks(by_words, near, met, recall.window, recall.k)
        if state == "not_a_candidate"
        else (),
        degraded=tuple(page.degraded),
    )


def _found(page: Page, item: str, sized: Any) -> tuple[State, Page]:
    """Where the product is, and the page that shows it."""
    if not page.reranked:
        return "not_reranked", page
    if any(drop["id"] == item for drop in page.dropped):
        return "dropped", page
    if any(hit.id == item for hit in page.hits):
        return "ranked", page
    ranked = int(page.report.get("candidates", 0)) - int(page.report.get("dropped_count", 0))
    if ranked > len(page.hits):
        # With neighbours, more were ranked than the window holds.
        longer = sized(ranked)
        if longer.reranked and any(hit.id == item for hit in longer.hits):
            return "ranked", longer
    return "not_a_candidate", page


def _recall(client: OpenSearch, pipeline: str) -> _Recall:
    """
    Raises:
        InvalidInput: there is no such pipeline, or it does not rank.
    """
    try:
        body = client.search_pipeline.get(id=pipeline)[pipeline]
    except NotFound as error:
        raise InvalidInput(
            f"OpenSearch has no search pipeline {pipeline!r}. Create it with `neuralrank config "
            "apply`, or name another with --pipeline."
        ) from error
    ranks = [
        each["neural_rank"] for each in body.get("response_processors", ()) if "neural_rank" in each
    ]
    if not ranks:
        raise InvalidInput(
            f"The search pipeline {pipeline!r} has no neural_rank, so it ranks nothing. Name "
            "another with --pipeline."
        )
    by_place = ranks[0].get("fusion") == "rrf"
    for each in body.get("request_processors", ()):
        if (config := each.get("neural_recall")) is not None:
            k = int(config.get("k", _K)) if config.get("vector", True) else 0
            return _Recall(int(config.get("window", _WINDOW)), k, by_place)
    return _Recall(_WINDOW, 0, by_place)


def _lexical(
    client: OpenSearch, name: str, words: Mapping[str, Any], item: str, met: Any
) -> Lexical | None:
    answer = client.explain(index=name, id=item, body={"query": dict(words)})
    return lexical(answer["explanation"], met) if answer["matched"] else None


def _nearness(
    client: OpenSearch,
    settings: Settings,
    name: str,
    query: str,
    item: str,
    mappings: Mapping[str, Any],
    k: int,
) -> Nearness:
    """The product's vector against the query's; what can't be had is said, and is no error."""
    field = mappings.get("properties", {}).get(VECTOR)
    if field is None:
        return Nearness(None, None, None, None, f"the index has no {VECTOR}")
    try:
        with Client.of(settings) as sidecar:
            (vector,) = sidecar.encode(queries=[query], index=name)
    except NeuralrankError as error:
        return Nearness(None, None, None, None, f"the query can't be encoded: {error}")
    space = str(field.get("method", {}).get("space_type", field.get("space_type", "l2")))
    where = vector_place(client, name, item, vector, space, k or _K)
    if where.score is None:
        return Nearness(where, None, None, None, "the product has none")
    own = _vector(client, name, item)
    # The packed one is whole also where shorter ones are searched (Matryoshka).
    cosine = cosine_of(where.score, space)
    if own is not None and len(own) == len(vector):
        cosine = float(own @ vector)
    encoder = str(noted(mappings).get("encoder", ""))
    return Nearness(
        where, cosine, _calibrated(settings, encoder, cosine), cosine_of(where.last, space)
    )


def _vector(client: OpenSearch, name: str, item: str) -> NDArray[np.float32] | None:
    answer = client.get(index=name, id=item, params={"_source_includes": PACKED})
    return unpack(answer.get("_source", {}).get(PACKED))


def _calibrated(settings: Settings, encoder: str, cosine: float | None) -> float | None:
    if cosine is None or not encoder:
        return None
    try:
        scale = Registry(settings.registry_path).manifest(encoder).query_similarity
    except NeuralrankError:
        return None
    return float(calibrated(np.asarray(cosine, np.float32), scale))
