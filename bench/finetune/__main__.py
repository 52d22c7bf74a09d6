"""The command line: measures every cell, and writes the report."""

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.entry import entry
from bench.finetune.cells import READ, Cell, Material, Method, measure, sampled
from bench.finetune.ranked import ranked
from bench.finetune.share import METRIC, SHARES, ndcg
from bench.judged import judged_dataset
from bench.report import Report
from bench.workload import default_registry
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.evaluation import Judged, compare
from neuralrank.files.exclusive import exclusive
from neuralrank.models import Checkpoint
from neuralrank.settings import load_settings

_SETS: Final = ("esci_en", "icecat_en")
_SIZES: Final = (50, 100, 200, 500)
_FEW_SHOT: Final = "esci_en"
_METHODS: Final = (Method("full", learning_rate=2e-4), Method("lora"))
_FOLDS: Final = 2


@dataclass(frozen=True)
class _Row:
    """A line of the table: cells that together measure all queries of a set."""

    what: str
    tested: str
    cells: tuple[Cell, ...]


def run(source: str) -> None:
    """Prints and writes the report; goes on where it was interrupted.

    Raises:
        NotFound: the data is not there.
        Unavailable: OpenSearch does not answer.
        Unsupported: it runs already.
    """
    from trainer.dataset.splits import Shares
    from trainer.text import read_source

    settings = load_settings()
    registry = Registry(default_registry())
    checkpoint = read_source(source, registry)
    if checkpoint.head != "score":
        raise InvalidInput(f"{source} is no cross-encoder; name one that is.")
    home = settings.home / "bench" / "finetune"
    busy = Unsupported("`make bench-finetune` runs already; wait for it or end it.")
    with exclusive(home.with_name("finetune.lock"), busy):
        materials = {
            each: Material(judged_dataset(each, Shares(0.0, 0.0)), ranked(each, settings, home))
            for each in _SETS
        }
        # What is found there was measured of the same weights, on the same rankings.
        folder = home / "-".join([checkpoint.digest(), *(m.ranked.key for m in materials.values())])
        rows = [_measured(row, checkpoint) for row in _rows(materials, folder)]
    _report(source, materials, rows)


def _rows(materials: Mapping[str, Material], folder: Path) -> Iterator[_Row]:
    full = _METHODS[0]
    for learned, tested in (_SETS, _SETS[::-1]):
        yield _across(materials, learned, tested, full, folder)
    for name in _SETS:
        yield _within(materials[name], name, _SIZES[-1], full, folder)
    for size in _SIZES:
        for method in _METHODS:
            if (size, method) != (_SIZES[-1], full):
                yield _within(materials[_FEW_SHOT], _FEW_SHOT, size, method, folder)


def _across(
    materials: Mapping[str, Material], learned: str, tested: str, method: Method, folder: Path
) -> _Row:
    learn, test = materials[learned], materials[tested]
    pairs = sampled(learn.ranked, list(learn.ranked.qrels), _SIZES[-1], seed=0)
    name = f"{learned}-{tested}-{method.method}"
    cell = Cell(folder / name, learn, pairs, test, list(test.ranked.qrels), method)
    return _Row(f"on {learned}, {method.method}", tested, (cell,))


def _within(material: Material, name: str, size: int, method: Method, folder: Path) -> _Row:
    queries = list(material.ranked.qrels)
    random.Random(0).shuffle(queries)
    cells = []
    for fold in range(_FOLDS):
        test = queries[fold::_FOLDS]
        learn = [query for query in queries if query not in test]
        pairs = sampled(material.ranked, learn, size, seed=fold)
        where = folder / f"{name}-{size}-{method.method}-{fold}"
        cells.append(Cell(where, material, pairs, material, test, method, seed=fold))
    return _Row(f"on {name} by folds, {method.method}", name, tuple(cells))


@dataclass(frozen=True)
class _Measured:
    row: _Row
    when: str
    pairs: int
    shares: tuple[float, ...]
    # nDCG@10 by query: with the shares that were earned, and with each of SHARES.
    earned: Mapping[str, float]
    given: Mapping[str, Sequence[float]]


def _measured(row: _Row, source: Checkpoint) -> _Measured:
    results = []
    for cell in row.cells:
        _say(f"{row.what}: {sum(map(len, cell.pairs.values()))} pairs")
        results.append(measure(cell, source))
    given = {query: of for result in results for query, of in result["values"].items()}
    earned = {
        query: of[SHARES.index(result["share"])]
        for result in results
        for query, of in result["values"].items()
    }
    pairs = round(float(np.mean([result["pairs"] for result in results])))
    when = max(result["when"] for result in results)
    return _Measured(row, when, pairs, tuple(result["share"] for result in results), earned, given)


def _report(
    source: str,
    materials: Mapping[str, Material],
    measured: Sequence[_Measured],
) -> None:
    rows = []
    for one in measured:
        of = materials[one.row.tested].ranked
        lexical = {q: ndcg(of.queries[q].lexical, of.qrels[q]) for q in one.earned}
        default = {q: ndcg(of.queries[q].items, of.qrels[q]) for q in one.earned}
        by_share = np.array(list(one.given.values())).mean(axis=0)
        rows.append(
            {
                "what": one.row.what,
                "tested on": one.row.tested,
                "pairs": one.pairs,
                "share": " ".join(f"{share:g}" for share in one.shares),
                METRIC: round(_mean(one.earned), 4),
                "lexical": round(_mean(lexical), 4),
                "default": round(_mean(default), 4),
                "gain": round(_mean(one.earned) - _mean(default), 4),
                "p": round(_p(one.earned, default), 3),
                **{f"at {s:g}": round(float(v), 4) for s, v in zip(SHARES, by_share, strict=True)},
            }
        )
    Report(
        "finetune",
        f"English relevance by fine-tuning {source}",
        rows,
        f"{METRIC} of the re-ranked result on recorded hybrid candidates. 'share': of the "
        f"fine-tuned model in the order of the first {READ}, chosen on its own training queries, "
        "one for each fold; 0: the default models stay. 'gain' and 'p': to the default models. "
        "'at …': what that share would have given, had somebody known. Nothing of it ships.",
        when=max(one.when for one in measured),
    ).publish()


def _mean(values: Mapping[str, float]) -> float:
    return float(np.mean(list(values.values())))


def _p(mine: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    names = tuple(mine)

    def judged(values: Mapping[str, float]) -> Judged:
        found: NDArray[np.float64] = np.array([values[name] for name in names])
        return Judged(names, {METRIC: found})

    return compare(judged(mine), judged(theirs), METRIC).p


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.finetune", description=__doc__)
    parser.add_argument("--from", dest="source", default="package:neuralrank", help="what is tuned")
    run(parser.parse_args().source)


def _say(what: str) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    entry(main)
