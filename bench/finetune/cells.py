"""One cell of the table: a training on some judged pairs, and what it does to a set's rankings.

The product trains (`trainer.text.reranker`), with its own early stopping on a part of the judged
queries, and what is measured is the int8 bundle, run by the code that serves it.
"""

import json
import random
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.finetune.ranked import Ranked, Ranking
from bench.finetune.share import SHARES, earned, gains, mixed, ndcg
from bench.report import where_and_when
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.errors import InvalidBundle
from neuralrank.files.whole import write_whole
from neuralrank.judging import query_id, query_key
from neuralrank.models import Checkpoint
from neuralrank.text.exclusions import as_read
from trainer.dataset import Dataset
from trainer.loop import TrainingOptions
from trainer.text.reranker import RerankerOptions, train_reranker

__all__ = ["Cell", "Material", "Method", "measure", "sampled"]

# Candidates of a query that the model reads.
READ: Final = 20
# One query in so many stops the training.
_DEV_OF: Final = 5
_EVALUATIONS: Final = 3

Pairs = Mapping[str, Sequence[str]]  # items by query


@dataclass(frozen=True)
class Method:
    """How it is trained. `method` is of `TrainingOptions`."""

    method: str
    epochs: float = 3.0
    learning_rate: float = 0.0
    batch_size: int = 16


@dataclass(frozen=True)
class Material:
    """A set: its judgments as a dataset, and its rankings."""

    dataset: Dataset
    ranked: Ranked

    def text(self, query: str) -> str:
        return self.ranked.queries[query].text


@dataclass(frozen=True)
class Cell:
    """What is learned from, and what is measured with."""

    folder: Path
    learn: Material
    pairs: Pairs
    test: Material
    queries: Sequence[str]
    method: Method
    seed: int = 0


def sampled(ranked: Ranked, queries: Sequence[str], count: int, seed: int) -> dict[str, list[str]]:
    """So many judged pairs of these queries: some ten of a query, or more where there are too few
    queries. Only what a search found is judged, as a person would."""
    chance = random.Random(seed)
    each = max(10, -(-count // len(queries)))
    found: dict[str, list[str]] = {}
    for query in chance.sample(list(queries), len(queries)):
        judged = [i for i in ranked.queries[query].items if i in ranked.qrels[query]]
        taken = chance.sample(judged, min(len(judged), each, count))
        if taken:
            found[query] = taken
        count -= len(taken)
        if count <= 0:
            break
    return found


def measure(cell: Cell, source: Checkpoint) -> dict[str, Any]:
    """The share that the model has earned, and nDCG@10 of each test query with every share.

    From the cell's folder, where it was measured.
    """
    file = cell.folder / "cell.json"
    if file.is_file():
        return dict(json.loads(file.read_text("utf-8")))
    queries = list(cell.pairs)
    random.Random(cell.seed).shuffle(queries)
    halves = queries[::2], queries[1::2]
    found: list[list[float]] = []
    for number, (mine, others) in enumerate((halves, halves[::-1])):
        model = _fitted(cell, source, {q: cell.pairs[q] for q in mine}, f"half-{number}")
        if model is not None:
            found += [_gains_of(cell, model, query) for query in others]
    model = _fitted(cell, source, cell.pairs, "all")
    values = {query: _values(cell.test, model, query) for query in cell.queries}
    result = {
        "when": where_and_when()["when"],
        "pairs": sum(map(len, cell.pairs.values())),
        "share": earned(found) if model is not None else 0.0,
        # By query, of each of SHARES.
        "values": values,
    }
    shutil.rmtree(cell.folder, ignore_errors=True)
    write_whole(file, json.dumps(result))
    return result


def _fitted(cell: Cell, source: Checkpoint, pairs: Pairs, name: str) -> CrossEncoder | None:
    """None where the pairs can't be learned from (all alike, or nothing to stop by), or where what
    came of it can't serve."""
    stop = _stopping(cell, pairs)
    learn = {query: items for query, items in pairs.items() if query not in stop}
    grades = {g for q, items in learn.items() for g in _grades(cell.learn.ranked, q, items)}
    if not stop or len(grades) < 2:
        return None
    method, out = cell.method, cell.folder / name
    training = TrainingOptions(
        out=out,
        epochs=method.epochs,
        batch_size=method.batch_size,
        learning_rate=method.learning_rate,
        method=method.method,  # type: ignore[arg-type]  # checked there
        seed=cell.seed,
        track="none",
    )
    steps = training.total_steps(sum(map(len, learn.values())))
    training = replace(training, every_steps=max(1, -(-steps // _EVALUATIONS)))
    dataset = _parted(cell.learn, learn, {query: pairs[query] for query in stop})
    options = RerankerOptions(loss="bce", name="fine-tuned")
    try:
        done = train_reranker(dataset, source, options, training)
    except InvalidBundle:
        return None
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    if done.bundle is None:
        raise RuntimeError("This benchmark runs in one process; start it without torchrun.")
    return CrossEncoder.load(done.bundle)


def _stopping(cell: Cell, pairs: Pairs) -> list[str]:
    """Queries with something relevant that stop the training."""
    relevant = [q for q, items in pairs.items() if any(_grades(cell.learn.ranked, q, items))]
    return relevant[: max(1, len(pairs) // _DEV_OF)] if len(pairs) > 1 else []


def _parted(material: Material, learn: Pairs, stop: Pairs) -> Dataset:
    """The dataset of these pairs alone."""
    of = {query_id(query_key(material.text(q))): ("train", learn[q]) for q in learn}
    of |= {query_id(query_key(material.text(q))): ("dev", stop[q]) for q in stop}
    dataset = material.dataset
    examples = [
        row | {"split": of[row["query_id"]][0]}
        for row in dataset.examples.to_pylist()
        if row["query_id"] in of and row["item_id"] in of[row["query_id"]][1]
    ]
    queries = [
        row | {"split": of[row["query_id"]][0]}
        for row in dataset.queries.to_pylist()
        if row["query_id"] in of
    ]
    used = pa.array(sorted({row["item_id"] for row in examples}))
    return replace(
        dataset,
        items=dataset.items.filter(pc.is_in(dataset.items["item_id"], used)),
        queries=pa.Table.from_pylist(queries, dataset.queries.schema),
        examples=pa.Table.from_pylist(examples, dataset.examples.schema),
    )


def _gains_of(cell: Cell, model: CrossEncoder, query: str) -> list[float]:
    """Of the judged pairs alone: nothing else is known of these queries."""
    ranking = cell.learn.ranked.queries[query]
    grades = cell.learn.ranked.qrels[query]
    score_of = dict(zip(ranking.items, ranking.scores, strict=True))
    items = [item for item in ranking.items if item in set(cell.pairs[query])]
    scores = np.array([score_of[item] for item in items])
    logits = _logits(cell.learn, model, ranking, items)
    return gains(items, scores, logits, {item: grades[item] for item in items})


def _values(material: Material, model: CrossEncoder | None, query: str) -> list[float]:
    """nDCG@10 with each of SHARES, the model reading the first of the default's order."""
    ranking, grades = material.ranked.queries[query], material.ranked.qrels[query]
    if model is None:
        return [ndcg(ranking.items, grades)] * len(SHARES)
    head, tail = list(ranking.items[:READ]), ranking.items[READ:]
    logits, scores = _logits(material, model, ranking, head), np.array(ranking.scores[:READ])
    values = []
    for share in SHARES:
        by = np.argsort(-mixed(scores, logits, share), kind="stable")
        values.append(ndcg([*(head[place] for place in by), *tail], grades))
    return values


def _logits(
    material: Material, model: CrossEncoder, ranking: Ranking, items: Sequence[str]
) -> np.ndarray:
    texts = _texts(material.dataset, items)
    return np.asarray(model.score(as_read(ranking.text), texts), np.float64)


def _texts(dataset: Dataset, items: Sequence[str]) -> list[str]:
    wanted = dataset.items.filter(pc.is_in(dataset.items["item_id"], pa.array(list(items))))
    found = dict(zip(wanted["item_id"].to_pylist(), wanted["text"].to_pylist(), strict=True))
    return [found[item] for item in items]


def _grades(ranked: Ranked, query: str, items: Iterable[str]) -> list[int]:
    return [ranked.qrels[query][item] for item in items]
