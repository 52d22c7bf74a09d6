"""Small deterministic parts that stand where models and OpenSearch stand, by the same protocols.

Texts become bags of words: the vector counts words, so a cosine is word overlap and every expected
order can be seen by eye.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from neuralrank.errors import NotFound
from neuralrank.personal.inputs import Columns, Event
from neuralrank.text.tokens import Ids, Tokens
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.cores import Share
from sidecar.deadline import Deadline
from sidecar.domain import Floats, Item, Profile, Ranking, Weights
from sidecar.features.items import ItemStore
from sidecar.features.opensearch import IndexInfo, PhotosInfo
from sidecar.features.profile import Users
from sidecar.inference.cost import Cost
from sidecar.inference.inference import Inference
from sidecar.models.follower import Models
from sidecar.models.serving import Loaded, Serving, State, Status
from sidecar.ranking.cascade import Ranker
from sidecar.ranking.encode import Vectors
from sidecar.rpc.wire import read_rank
from sidecar.telemetry.metrics import Metrics

WORDS = ("apple", "dell", "huawei", "computer", "phone", "kettle", "red", "blue")
DIMENSIONS = len(WORDS)
WEIGHTS = Weights(1.0, 0.5, 0.5)
ONE_CORE = Share(query_threads=1, pair_threads=1, workers=2)


class Clock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def vector(text: str) -> Floats:
    """float32 [8] of length 1; a text without known words is spread evenly."""
    counts = np.array([text.lower().split().count(word) for word in WORDS], np.float32)
    if not counts.any():
        counts += 1
    return np.asarray(counts / np.linalg.norm(counts), np.float32)


def spelled(text: str, kind: int = 0) -> Tokens:
    """One token a character: its code point; all of one type."""
    ids = np.array([ord(sign) for sign in text], np.int32)
    return Tokens(ids, np.full(len(ids), kind, np.int8))


def read_back(ids: Ids) -> str:
    return "".join(map(chr, ids.tolist()))


@dataclass
class WordEncoder:
    """Counts words. Calibrated, a cosine of a query is what it is, of items less and of a centroid
    more."""

    ref: str = "words@000000000001"
    backend_name: str = "words"
    dimensions: int = DIMENSIONS
    matryoshka: tuple[int, ...] = ()
    # What it was given as queries, and as passages.
    calls: list[list[str]] = field(default_factory=list)
    passages: list[list[str]] = field(default_factory=list)

    def tokenise_queries(self, texts: Sequence[str]) -> list[Tokens]:
        return [spelled(text) for text in texts]

    def tokenise_passages(self, texts: Sequence[str]) -> list[Tokens]:
        return [spelled(text, kind=1) for text in texts]

    def run(self, batch: Sequence[Tokens]) -> Floats:
        texts = [read_back(tokens.ids) for tokens in batch]
        as_passages = any(tokens.types.any() for tokens in batch)
        (self.passages if as_passages else self.calls).append(texts)
        return np.stack([vector(text) for text in texts])

    def calibrate_query(self, cosines: Floats) -> Floats:
        return np.clip(cosines, 0.0, 1.0)

    def calibrate_item(self, cosines: Floats) -> Floats:
        return np.clip(cosines, 0.0, 1.0) ** 2

    def calibrate_centroid(self, cosines: Floats) -> Floats:
        return np.sqrt(np.clip(cosines, 0.0, 1.0))


@dataclass
class WordJudge:
    """A cross-encoder: 4 for each word that query and text share, from -4."""

    ref: str = "judge@000000000002"
    vocabulary: str = "characters"
    backend_name: str = "words"
    languages: tuple[str, ...] = ("en",)
    calls: list[list[str]] = field(default_factory=list)
    clock: Clock | None = None
    # Seconds of the clock that a pair takes.
    seconds: float = 0.0
    error: Exception | None = None

    def supports(self, language: str) -> bool:
        return language in self.languages

    def tokenise(self, texts: Sequence[str]) -> list[Ids]:
        return [spelled(text).ids for text in texts]

    def pair(self, query: Ids, text: Ids) -> Tokens:
        return spelled(f"{read_back(query)}\n{read_back(text)}")

    def run(self, batch: Sequence[Tokens]) -> Floats:
        pairs = [read_back(tokens.ids).split("\n") for tokens in batch]
        return np.array([self.score(query, [text]) for query, text in pairs])

    def score(self, query: str, texts: Sequence[str]) -> Floats:
        self.calls.append(list(texts))
        if self.error:
            raise self.error
        if self.clock:
            self.clock.now += self.seconds * len(texts)
        wanted = set(query.lower().split())
        return np.array(
            [4.0 * len(wanted & set(text.lower().split())) - 4.0 for text in texts], np.float32
        )

    def probability(self, logits: Floats) -> Floats:
        return np.clip((logits + 4.0) / 8.0, 0.0, 1.0).astype(np.float32)

    @property
    def texts(self) -> list[str]:
        return [text for call in self.calls for text in call]


@dataclass
class WordTaste:
    """A personal ranker: how many of the user's items have a word that the candidate has."""

    ref: str = "taste@000000000003"
    encoder: str = "words@000000000001"
    dimensions: int = DIMENSIONS
    events: int = 20
    # What it was given: items with actions oldest first, candidates, and the query's vector.
    calls: list[tuple[list[tuple[str, str]], list[str], Floats | None]] = field(
        default_factory=list
    )
    error: Exception | None = None
    # Of whose items it was asked what goes with them, and without which.
    likely_of: list[list[str]] = field(default_factory=list)
    without: list[set[str]] = field(default_factory=list)
    # Items that nobody else had.
    unheard_of: set[str] = field(default_factory=set)

    def score(
        self,
        events: Sequence[Event],
        event_vectors: Floats,
        event_columns: Columns,
        ids: Sequence[str],
        vectors: Floats,
        columns: Columns,
        query: Floats | None,
        retrieval: Floats,
    ) -> Floats:
        acts = [(event.item_id, event.action) for event in events]
        self.calls.append((acts, list(ids), query))
        assert len(event_vectors) == len(event_columns.brand) == len(events)
        assert len(vectors) == len(columns.price) == len(retrieval) == len(ids)
        if self.error:
            raise self.error
        return np.asarray((event_vectors @ vectors.T > 0).sum(axis=0), np.float32)

    def likely(self, events: Sequence[Event], most: int, without: Collection[str]) -> list[str]:
        self.likely_of.append([event.item_id for event in events])
        self.without.append(set(without))
        if self.unheard_of.intersection(event.item_id for event in events):
            return []
        return (["D", "gone", "A"] if events else ["popular", "B"])[:most]

    def fit(self, scores: Floats) -> Floats:
        return np.clip(scores / 10.0, 0.0, 1.0)


@dataclass
class Catalogue:
    """`Features` in memory: one alias "shop", of the indexes whose names are in `generation`, and
    users' profiles. Contents that name no index are in the first."""

    contents: dict[str, Item] = field(default_factory=dict)
    users: dict[str, Profile] = field(default_factory=dict)
    encoder: str = "words@000000000001"
    dimensions: int = 0
    generation: str = "shop-1"
    uuid: str = "first"
    error: Exception | None = None
    # Whether several of the contents may have one id.
    shared: bool = False
    reads: list[str] = field(default_factory=list)
    photos: PhotosInfo | None = None

    async def index(self, name: str, timeout: float) -> IndexInfo:
        self._read("index", timeout)
        if name != "shop":
            raise NotFound(f"no such index [{name}]")
        return IndexInfo(
            name,
            ",".join(f"{name}/{self.uuid}" for name in self._names),
            self.encoder,
            dimensions=self.dimensions,
            photos=self.photos,
        )

    async def items(self, index: IndexInfo, ids: Sequence[str], timeout: float) -> list[Item]:
        self._read(f"items {index.name} {len(ids)}", timeout)
        found = (
            [item for item in self.contents.values() if item.id in ids]
            if self.shared
            else [self.contents[name] for name in ids if name in self.contents]
        )
        return [replace(item, index=item.index or self._names[0]) for item in found]

    async def events(self, user: str, timeout: float) -> Profile:
        self._read("events", timeout)
        return self.users.get(user, Profile())

    @property
    def _names(self) -> list[str]:
        return self.generation.split(",")

    def _read(self, what: str, timeout: float) -> None:
        assert timeout > 0
        self.reads.append(what)
        if self.error:
            raise self.error


def item(name: str, text: str, **fields: object) -> Item:
    """An item whose vector is that of its text; the brand is the first word."""
    given = {"text": text, "brand": text.split()[0].title(), "vector": vector(text)}
    return Item(name, **{**given, **fields})  # type: ignore[arg-type]


def shop() -> Catalogue:
    """The worked case: A Apple and B Dell computers, C Huawei and D Apple phones."""
    products = (
        item("A", "apple computer", price=1_000.0, category=("digital", "computer")),
        item("B", "dell computer", price=800.0, category=("digital", "computer")),
        item("C", "huawei phone", price=2_000.0, category=("digital", "phone")),
        item("D", "apple phone", price=1_200.0, category=("digital", "phone"), in_stock=False),
    )
    return Catalogue({product.id: product for product in products})


def serving(
    encoder: WordEncoder | None,
    judge: WordJudge | None,
    cost: Cost | None = None,
    taste: WordTaste | None = None,
) -> Serving:
    loaded: dict[str, Loaded] = {}
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for kind, model in (("encoder", encoder), ("cross_encoder", judge)):
        if model is None:
            continue
        name, _, digits = model.ref.partition("@")
        status = Status(name, digits, kind, (), State.SERVING, max_tokens=64)
        loaded[model.ref] = (
            Loaded(status, now, encoder=model)
            if isinstance(model, WordEncoder)
            else Loaded(status, now, cross_encoder=model, cost=cost or Cost())
        )
    if taste is not None:
        name, _, digits = taste.ref.partition("@")
        status = Status(name, digits, "personal_ranker", (), State.SERVING)
        loaded[taste.ref] = Loaded(status, now, personal=taste, cost=cost or Cost())
    return Serving(loaded)


class NoBundles:
    """A registry that is empty."""

    def refs(self) -> list[str]:
        return []

    def get(self, ref: str) -> object:
        raise NotFound(ref)


class Bench:
    """A ranker on the parts above, asked as a caller asks: by a request of the wire contract."""

    def __init__(
        self,
        catalogue: Catalogue | None = None,
        encoder: WordEncoder | None = None,
        judge: WordJudge | None = None,
        cost: Cost | None = None,
        taste: WordTaste | None = None,
        *,
        queue_tokens: int = 1_000_000,
    ) -> None:
        self.clock = Clock()
        self.catalogue = shop() if catalogue is None else catalogue
        self.encoder = WordEncoder() if encoder is None else encoder
        self.judge = judge
        self.metrics = Metrics()
        self.models = Models(NoBundles(), share=ONE_CORE)  # type: ignore[arg-type]
        self.models.serving = serving(self.encoder, judge, cost, taste)
        self.inference = Inference(
            self.metrics,
            workers=1,
            batch_tokens=1_000,
            queue_tokens=queue_tokens,
            query_cache_bytes=100_000,
            token_cache_bytes=100_000,
            score_cache_bytes=100_000,
            clock=self.clock,
        )
        self.items = ItemStore(
            self.catalogue,
            self.metrics,
            max_bytes=2**20,
            item_ttl=30.0,
            index_ttl=2.0,
            wait=5.0,
            read_timeout=5.0,
            clock=self.clock,
        )
        self.users = Users(
            self.catalogue,
            self.items,
            self.inference,
            self.metrics,
            ttl=1.0,
            max_bytes=2**20,
            half_life_days=7.0,
            wait=5.0,
            read_timeout=5.0,
            exclusions=True,
            clock=self.clock,
        )
        self.vectors = Vectors(self.models, self.items, self.users, self.inference)
        self.ranker = Ranker(
            self.models,
            self.items,
            self.users,
            self.inference,
            self.metrics,
            max_reranked=50,
            rerank_characters=500,
        )

    async def rank(self, request: pb.RankRequest, seconds: float = 60.0) -> Ranking:
        """The answer within so many seconds of the bench's clock."""
        deadline = Deadline.after(seconds, self.clock)
        return await self.ranker.rank(read_rank(request, WEIGHTS), deadline)

    async def close(self) -> None:
        await self.items.close()
        await self.users.close()
        self.models.close()
        self.inference.close()


def request(*ids: str, query: str = "", user: str = "", **fields: object) -> pb.RankRequest:
    """A request for items of the shop, by id alone."""
    made = pb.RankRequest(
        query=query,
        index="shop",
        candidates=[pb.Candidate(id=name) for name in ids or ("C", "D", "B", "A")],
        **fields,  # type: ignore[arg-type]
    )
    if user:
        made.user.id = user
    return made


def ids(ranking: Ranking) -> list[str]:
    return [hit.id for hit in ranking.results]


def reasons(ranking: Ranking) -> set[str]:
    return {entry.reason.value for entry in ranking.degraded}
