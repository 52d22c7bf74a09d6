"""A whole run: from a spec to what came out, resumable, and nothing is left in the cluster."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import orjson
from opensearchpy import OpenSearch

from neuralrank.bundles.registry import Registry
from neuralrank.client import Client
from neuralrank.errors import InvalidInput, NeuralrankError, NotFound, Unavailable, Unsupported
from neuralrank.extras import install
from opensearch_config import files
from opensearch_config.tuning.asking import ask, ask_all, time_all
from opensearch_config.tuning.bench import Bench, Built, clear
from opensearch_config.tuning.journal import Journal, open_journal
from opensearch_config.tuning.located import Located
from opensearch_config.tuning.neighbours import Neighbours
from opensearch_config.tuning.page import write_page
from opensearch_config.tuning.questions import Questions, read_questions
from opensearch_config.tuning.results import METRIC, Measured, table
from opensearch_config.tuning.search import search, split
from opensearch_config.tuning.spec import Spec, read_spec
from opensearch_config.tuning.variants import Planned, Source, plan

__all__ = ["discard", "tune"]

# Seconds that a bundle which a variant names may take to be loaded, and between two looks.
_READY: Final = 60.0
_POLL: Final = 0.5

# Called with what is done, how far it is, and how much of it there is.
Progress = Callable[[str, int, int], None]


def tune(
    client: OpenSearch,
    ranker: Client,
    path: Path,
    home: Path,
    registry: str,
    progress: Progress,
    page: Path | None = None,
    folder: Path = files.FOLDER,
) -> dict[str, Any]:
    """Compares the variants of a spec.

    Interrupted or failed, what was measured stays on disk, and the same call goes on; the indexes
    and pipelines are deleted either way.

    Args:
        home: where runs keep what they know, below `tune`.
        registry: of the bundles, to know to which lengths an encoder's vectors may be cut.
        page: where an HTML report goes.
        folder: the files that variants start from, where the spec names none.

    Returns:
        What `neuralrank tune --json` prints.

    Raises:
        InvalidInput: the spec, the judgments or a variant can't be used.
        NotFound: the index or a file is not there.
        Unavailable: OpenSearch or the sidecar does not answer, or pages come back unranked.
        Unsupported: an extra or a plugin is missing.
    """
    began = time.time()
    spec, found = read_spec(path)
    _require(["ir_measures", "scipy"])
    _require(["optuna"] if spec.search else [])
    _require(["jinja2", "matplotlib"] if page else [])
    source = Source.of(client, spec.index)
    planned = plan(spec, found, source, folder)
    _check_dimensions(planned, found, source, registry)
    _check_bundles(planned, found, ranker)
    questions = read_questions(client, spec.judgments, path.parent, source.index)
    if spec.search:
        split(list(questions.texts), spec.search.held_back, spec.search.seed)
    name = _name(path)
    with open_journal(home / "tune" / name) as journal:
        bench = Bench(client, name, source)
        if journal.begin(_identity(spec, source, planned, questions)):
            bench.clear()  # of an earlier state of the spec or of the index
        with _cleared(bench, path):
            run = _Run(client, ranker, spec, source, questions, journal, bench, progress)
            measured = run.measure(planned)
            report: dict[str, Any] = {
                "spec": str(path),
                "index": spec.index,
                "documents": source.documents,
                "metric": METRIC,
                "judgments": questions.json(),
                "variants": table(measured, questions, spec.recall_at),
                "search": run.search(planned, measured) if spec.search else None,
                "seconds": round(time.time() - began, 1),
            }
            if page is not None:
                write_page(report, page)
        journal.forget()
    return report


def discard(client: OpenSearch, path: Path, home: Path) -> list[str]:
    """Deletes what earlier runs of a spec have left: indexes, pipelines, what they had measured.

    Returns:
        The names of the indexes and pipelines.
    """
    name = _name(path)
    with open_journal(home / "tune" / name) as journal:
        gone = clear(client, name)
        journal.forget()
    return gone


class _Run:
    """What measuring needs."""

    def __init__(
        self,
        client: OpenSearch,
        ranker: Client,
        spec: Spec,
        source: Source,
        questions: Questions,
        journal: Journal,
        bench: Bench,
        progress: Progress,
    ) -> None:
        self._client = client
        self._spec = spec
        self._questions = questions
        self._journal = journal
        self._bench = bench
        self._progress = progress
        self._neighbours = Neighbours(client, ranker, journal, source, questions, spec.recall_at)

    def measure(self, planned: list[Planned]) -> list[Measured]:
        """Every variant: its index, its neighbours, its answers; then how long pages take."""
        places, recalls, answers = [], [], []
        for number, each in enumerate(planned):
            built, pipeline = self._ready(each, number)
            places.append((built, (built.index, pipeline)))
            # First, so that the queries' vectors are in the sidecar's cache for every variant.
            recall = None
            if each.has_vectors:
                recall = self._neighbours.recall(
                    each, built.index, self._step(f"{each.name}: neighbours")
                )
            recalls.append(recall)
            answers.append(
                ask_all(
                    self._client,
                    self._journal,
                    each,
                    (built.index, pipeline),
                    self._questions,
                    self._step(f"{each.name}: queries"),
                )
            )
        times = time_all(
            self._client,
            self._journal,
            [(each, where) for each, (_, where) in zip(planned, places, strict=True)],
            self._questions,
            self._spec.repeats,
            self._step("all: times"),
        )
        return [
            Measured(
                each.name,
                each.variant.model_dump(mode="json", exclude_unset=True, exclude={"name"}),
                built,
                each.pipeline,
                answered,
                times[each.name],
                recall,
            )
            for each, (built, _), answered, recall in zip(
                planned, places, answers, recalls, strict=True
            )
        ]

    def search(self, planned: list[Planned], measured: list[Measured]) -> dict[str, Any]:
        """The search of the spec."""
        options = self._spec.search
        if options is None:
            raise InvalidInput("the spec has no search.")
        place = next((i for i, each in enumerate(planned) if each.name == options.variant), 0)
        built, pipeline = self._ready(planned[place], place)
        return search(
            self._client,
            self._journal,
            options,
            planned[place],
            (built.index, pipeline),
            self._questions,
            measured[place].answers.items,
            self._step("search: trials"),
        )

    def _step(self, name: str) -> Callable[[int, int], None]:
        return lambda done, total: self._progress(name, done, total)

    def _ready(self, planned: Planned, place: int) -> tuple[Built, str]:
        """Index and pipeline of a variant, and its models loaded."""
        built = self._bench.index(planned, self._step(f"{planned.name}: indexing"))
        pipeline = self._bench.pipeline(planned, place)
        query = files.filled(planned.template, next(iter(self._questions.texts.values())))
        until = time.monotonic() + _READY
        while not (asked := ask(self._client, built.index, pipeline, query, 1)).ranked:
            if time.monotonic() > until:
                raise Unavailable(
                    f"Pages of {planned.name!r} come back unranked, so there is nothing to judge: "
                    f"{asked.detail or 'no reason was given'}. See `neuralrank status`, or give "
                    "the pipeline more time (timeout_ms)."
                )
            time.sleep(_POLL)
        return built, pipeline


@contextmanager
def _cleared(bench: Bench, path: Path) -> Iterator[None]:
    """Deletes what was made in the cluster, whatever happens."""
    try:
        yield
    except BaseException as error:
        try:
            bench.clear()
        except NeuralrankError:
            if isinstance(error, NeuralrankError):
                error.args = (
                    f"{error} Indexes and pipelines of the run may be left: `neuralrank tune "
                    f"{path} --discard` deletes them.",
                )
        raise
    bench.clear()


def _require(modules: list[str]) -> None:
    """Refuses before anything is made, and not when all is measured."""
    for name in modules:
        if find_spec(name) is None:
            raise Unsupported(f"This needs {name}: {install('tune')}.")


def _check_dimensions(
    planned: list[Planned], found: Located, source: Source, registry: str
) -> None:
    """Refuses lengths to which the encoder can't be cut, before anything is made."""
    wanted = {each.dimensions for each in planned if each.variant.dimensions} - {0}
    if not wanted:
        return
    try:
        manifest = Registry(registry).get(source.encoder).manifest
    except NotFound:
        return  # it is not on this machine; the sidecar has it, and refuses
    allowed = (*manifest.matryoshka, manifest.dimensions)
    for place, each in enumerate(planned):
        if each.variant.dimensions and each.dimensions not in allowed:
            raise found.refusal(
                ("variants", place, "dimensions"),
                f"got {each.dimensions}; vectors of {source.encoder} may have "
                f"{', '.join(map(str, allowed))}, since others were not trained for.",
            )


def _check_bundles(planned: list[Planned], found: Located, ranker: Client) -> None:
    """Refuses rerankers that are not there: their pages would all be degraded."""
    named = {each.variant.bundle for each in planned} - {None, "", "none"}
    if not named:
        return
    known: set[str] = set()
    for bundle in ranker.model_status().bundles:
        if bundle.kind == "cross_encoder":
            known |= {bundle.name, f"{bundle.name}@{bundle.hash}"}
    for place, each in enumerate(planned):
        if each.variant.bundle in named - known:
            raise found.refusal(
                ("variants", place, "bundle"),
                f"the sidecar has no cross-encoder {each.variant.bundle!r}; allowed are none, "
                f"{', '.join(sorted(known))}.",
            )


def _name(path: Path) -> str:
    """A spec's own, so that what it left is found again, however its content changed."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]


def _identity(spec: Spec, source: Source, planned: list[Planned], questions: Questions) -> str:
    """Of everything that a result depends on."""
    parts = [
        spec.model_dump(mode="json"),
        [source.uuid, source.documents],
        [[each.body, each.pipeline, each.template] for each in planned],
        questions.grades,
        questions.texts,
    ]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()
