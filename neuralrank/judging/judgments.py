"""Judgment files: TREC qrels with a file of queries, and the judgments of OpenSearch's Search
Relevance (https://docs.opensearch.org/latest/search-plugins/search-relevance/judgments/).

The name tells the format: `.json` is OpenSearch's, anything else TREC. TREC has ids for queries,
OpenSearch their texts. What is read may be gzip.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NotFound
from neuralrank.evaluation import read_qrels, read_queries
from neuralrank.files import zipped
from neuralrank.files.whole import write_whole
from neuralrank.opensearch.point_in_time import AS_STORED
from neuralrank.text.cleaning import normal_form

__all__ = [
    "Judgments",
    "is_opensearch",
    "queries_beside",
    "query_id",
    "query_key",
    "require_some",
    "unknown_in_words",
    "unknown_items",
]

_IMPORT: Final = "IMPORT_JUDGMENT"
_BATCH: Final = 1_000
# Unknown ids that are named in words; `--json` names all.
_NAMED: Final = 20


def query_key(text: str) -> str:
    """Queries that differ in case, width or spaces only are one: "ＭacBook  Air" is "macbook
    air"."""
    return " ".join(normal_form(text).casefold().split())


def query_id(key: str) -> str:
    """An id made of a query's key (`query_key`), the same wherever it is made."""
    return f"q{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def queries_beside(path: Path) -> Path:
    """Where the queries of a TREC file are written: `mine.queries.tsv` of `mine.qrels`, and of
    `mine.qrels.gz`."""
    return path.with_name(f"{Path(path.name.removesuffix('.gz')).stem}.queries.tsv")


@dataclass
class Judgments:
    """Grades by query id and item id, and the queries' texts."""

    texts: dict[str, str] = field(default_factory=dict)
    grades: dict[str, dict[str, int]] = field(default_factory=dict)
    _ids: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._ids = {query_key(text): query for query, text in self.texts.items()}

    def id_of(self, text: str) -> str:
        """The id of a query's text; a new one, made of the text, where it has none yet."""
        key = query_key(text)
        if key not in self._ids:
            self._ids[key] = query_id(key)
            self.texts[self._ids[key]] = text
        return self._ids[key]

    @property
    def count(self) -> int:
        return sum(map(len, self.grades.values()))

    @property
    def items(self) -> set[str]:
        return {item for grades in self.grades.values() for item in grades}

    def by_ids_of(self, other: "Judgments") -> "Judgments":
        """These under the ids that another one has for the same texts; an id that it has for its
        own stays, whoever else has that text.

        Raises:
            InvalidInput: two ids become one, and an item has two grades.
        """
        made = Judgments({**self.texts, **other.texts})
        for query, grades in self.grades.items():
            key = query_key(self.texts[query])
            same = query in other.texts and query_key(other.texts[query]) == key
            made.add(query if same else other._ids.get(key, query), grades)
        return made

    def add(self, query: str, grades: Mapping[str, int]) -> None:
        """Grades of a query, beside those that it has.

        Raises:
            InvalidInput: an item has another grade already.
        """
        known = self.grades.setdefault(query, {})
        for item, grade in grades.items():
            if (before := known.setdefault(item, grade)) != grade:
                raise InvalidInput(
                    f"Item {item!r} has grade {grade} for the query {self.texts[query]!r}, and "
                    f"{before} for the same one under another id: queries that differ in case, "
                    "width or spaces only are one. Keep one of the grades."
                )

    def without(self, items: set[str]) -> "Judgments":
        """These without the judgments on some items."""
        kept = {
            query: {item: grade for item, grade in grades.items() if item not in items}
            for query, grades in self.grades.items()
        }
        return Judgments(
            dict(self.texts), {query: grades for query, grades in kept.items() if grades}
        )

    def asked(self, queries: Path) -> "Judgments":
        """Those of queries that a TSV has a text of: an id in a text's place says nothing.

        Raises:
            InvalidInput: it has none of them.
        """
        texts = read_queries(queries)
        kept = {query: grades for query, grades in self.grades.items() if query in texts}
        if not kept:
            raise InvalidInput(
                f"No judged query is in {queries}: {next(iter(self.grades))!r} is judged, "
                f"{next(iter(texts))!r} has a text. See that both files have the same ids."
            )
        return Judgments({query: texts[query] for query in kept}, kept)

    @classmethod
    def read_asked(
        cls, path: Path, queries: Path | None = None, thresholds: Sequence[float] = ()
    ) -> "tuple[Judgments, int]":
        """Those of queries with a text, and how many queries were left out for lack of one.

        Args:
            queries: of a TREC file; None: what `queries_beside` names, where it is there. Where
                there are none at all, ids are texts.

        Raises:
            InvalidInput: as `read` and `asked`.
        """
        beside = queries_beside(path)
        texts = queries or (beside if beside.is_file() else None)
        read = cls.read(path, texts, thresholds)
        made = read.asked(texts) if texts and not is_opensearch(path) else read
        return made, len(read.grades) - len(made.grades)

    @classmethod
    def read(
        cls, path: Path, queries: Path | None = None, thresholds: Sequence[float] = ()
    ) -> "Judgments":
        """
        Args:
            queries: the TSV of a TREC file's queries. Without it, ids stand for texts.
            thresholds: make grades of ratings that are no whole numbers (`clicks.grade`).

        Raises:
            NotFound: there is no such file.
            InvalidInput: it has another format, or ratings that are no whole numbers.
        """
        if is_opensearch(path):
            return _from_opensearch(path, thresholds)
        grades = read_qrels(path)
        texts = read_queries(queries) if queries else {}
        return cls({query: texts.get(query, query) for query in grades}, grades)

    def write(self, path: Path, *, queries: bool = True) -> Path | None:
        """Writes them in one step: a reader sees the old file or the new one.

        Args:
            queries: whether the queries of a TREC file go into a second file beside it.

        Returns:
            The second file, if there is one.

        Raises:
            InvalidInput: an id can't be written in TREC, or the file can't be written.
        """
        if is_opensearch(path):
            _replace(path, orjson.dumps(self._opensearch(path.stem), option=orjson.OPT_INDENT_2))
            return None
        lines = [
            f"{_word(query)} 0 {_word(item)} {grade}\n"
            for query, grades in self.grades.items()
            for item, grade in grades.items()
        ]
        beside = queries_beside(path) if queries else None
        if beside:
            texts = [f"{query}\t{' '.join(self.texts[query].split())}\n" for query in self.grades]
            _replace(beside, "".join(texts).encode())
        _replace(path, "".join(lines).encode())
        return beside

    def _opensearch(self, name: str) -> dict[str, Any]:
        """The body of `PUT _plugins/_search_relevance/judgments`."""
        return {
            "name": name,
            "description": "Written by neuralrank judge",
            "type": _IMPORT,
            "judgmentRatings": [
                {
                    "query": self.texts[query],
                    "ratings": [
                        {"docId": item, "rating": f"{grade:.3f}"} for item, grade in grades.items()
                    ],
                }
                for query, grades in self.grades.items()
            ],
        }


def unknown_items(client: OpenSearch, index: str, items: Iterable[str]) -> list[str]:
    """Those that an index does not hold, sorted.

    Of an alias over indices that share ids, an item comes once from each, and others have no room
    in the answer: they are asked for again.

    Raises:
        NotFound: there is no such index.
    """
    if not client.indices.exists(index=index):
        raise NotFound(f"There is no index {index!r}. Name one with `--index`.")
    ordered = sorted(items)
    unknown: list[str] = []
    for start in range(0, len(ordered), _BATCH):
        left = ordered[start : start + _BATCH]
        full = True
        while left and full:
            query = {"size": len(left), "query": {"ids": {"values": left}}, "_source": False}
            hits = client.search(index=index, body=query, params=AS_STORED)["hits"]["hits"]
            known = {hit["_id"] for hit in hits}
            # One with room left has all there is.
            full = len(hits) == len(left)
            left = [item for item in left if item not in known]
        unknown += left
    return unknown


def require_some(index: str, items: Collection[str], unknown: Sequence[str]) -> None:
    """
    Raises:
        InvalidInput: the index holds none of the judged items, so that all rankings have 0.
    """
    if items and len(unknown) == len(items):
        raise InvalidInput(
            f"None of the {len(items):,} judged items is in the index {index!r}, such as "
            f"{unknown[0]!r}: no ranking could find them. Name the index that the judgments are "
            "of, or other judgments."
        )


def unknown_in_words(unknown: Sequence[str]) -> str:
    """How many there are, and the first of them."""
    named = ", ".join(unknown[:_NAMED])
    more = f" and {len(unknown) - _NAMED:,} more" if len(unknown) > _NAMED else ""
    return f"{len(unknown):,} judged items are not in the index: {named}{more}"


def is_opensearch(path: Path) -> bool:
    """Whether a judgment file's name says that it is one of OpenSearch's Search Relevance."""
    return path.name.removesuffix(".gz").endswith(".json")


def _from_opensearch(path: Path, thresholds: Sequence[float]) -> Judgments:
    from neuralrank.judging.clicks import grade

    made = Judgments()
    for number, entry in enumerate(_ratings(path), start=1):
        where = f"{path}: query {number}"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("query"), str):
            raise InvalidInput(
                f"{where}: got {str(entry)[:80]!r}; allowed is an object with `query`."
            )
        grades = made.grades.setdefault(made.id_of(entry["query"]), {})
        for row in entry.get("ratings") or ():
            try:
                item, rating = str(row["docId"]), float(row["rating"])
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidInput(
                    f"{where}: got {str(row)[:80]!r}; a rating is an object with `docId` and "
                    "`rating`, a number."
                ) from error
            if not thresholds and not rating.is_integer():
                raise InvalidInput(
                    f"{where}: {item} has the rating {rating}, which is no grade. Make "
                    "grades first, saying from which rating on one is 1, 2, 3: `neuralrank judge "
                    f"convert {path} --thresholds 0.25,1,2 --out grades.json`."
                )
            own = grade(rating, thresholds) if thresholds else int(rating)
            if (before := grades.setdefault(item, own)) != own:
                raise InvalidInput(
                    f"{where}: {item} has grade {own}, and {before} in a rating before it; keep "
                    "one of them."
                )
    return made


def _ratings(path: Path) -> list[Any]:
    """`judgmentRatings`: of what is imported, or of what OpenSearch answers to a GET."""
    try:
        body = orjson.loads(zipped.read(path))
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{path} can't be read as JSON: {error}.") from error
    try:
        if "hits" in body:
            body = body["hits"]["hits"][0]["_source"]
        ratings = body["judgmentRatings"]
    except (KeyError, IndexError, TypeError):
        ratings = None
    if not isinstance(ratings, list):
        raise InvalidInput(
            f"{path} has no `judgmentRatings`; allowed is what `PUT "
            "_plugins/_search_relevance/judgments` takes, or what a GET of one answers."
        )
    return ratings


def _word(name: str) -> str:
    if not name or name.split() != [name]:
        raise InvalidInput(
            f"The id {name!r} can't be written in TREC, where spaces part the columns. Write "
            "OpenSearch's format: a name that ends in .json."
        )
    return name


def _replace(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise InvalidInput(f"{path} can't be written: {error.strerror or error}.") from error
