"""Judgments: which item answers which query how well, from clicks or from a person.

`pages` reads what was shown and clicked from OpenSearch's UBI indexes, `clicks` makes grades of it,
`from_clicks` does both, `asking` asks a person, and `judgments` reads and writes files.
"""

from neuralrank.judging.asking import Answered, Pair, ask_all
from neuralrank.judging.clicks import MODELS, Tally, grade
from neuralrank.judging.from_clicks import judgments_from_clicks
from neuralrank.judging.judgments import (
    Judgments,
    is_opensearch,
    query_id,
    query_key,
    require_some,
    unknown_in_words,
    unknown_items,
)
from neuralrank.judging.pages import (
    BEYOND,
    LAST_PLACE,
    Page,
    places_listed,
    read_pages,
    zero_based,
)
from neuralrank.ubi.rows import Skipped

__all__ = [
    "BEYOND",
    "LAST_PLACE",
    "MODELS",
    "Answered",
    "Judgments",
    "Page",
    "Pair",
    "Skipped",
    "Tally",
    "ask_all",
    "grade",
    "is_opensearch",
    "judgments_from_clicks",
    "places_listed",
    "query_id",
    "query_key",
    "read_pages",
    "require_some",
    "unknown_in_words",
    "unknown_items",
    "zero_based",
]
