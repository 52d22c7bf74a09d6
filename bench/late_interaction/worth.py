"""nDCG@10 alone and in the blend, by the sidecar's formulas on recorded candidates."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.blended import Page, Texts, pages, read_texts
from bench.candidates import judged_by_query, recorded
from bench.late_interaction.contenders import KEPT, SMALL, Contenders, late_name
from bench.report import Report
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.encoder import Encoder
from neuralrank.evaluation import Judged, compare
from neuralrank.settings import Settings
from neuralrank.text.language import detect

__all__ = ["report"]

_SETS: Final = ("esci_en", "icecat_en", "taobao_zh")
_READ: Final = (5, 20, 100)
_SHARES: Final = (0.1, 0.2, 0.35, 0.5, 0.7)
_METRIC: Final = "nDCG@10"
_LANGUAGES: Final = ("zh", "en")

Floats = NDArray[np.float32]
# Logits of a query and items, by their ids.
Score = Callable[[str, Sequence[str]], Floats]


def report(contenders: Contenders, settings: Settings) -> None:
    """Prints and writes it."""
    Report(
        "late_interaction",
        "Late interaction and cross-encoders, alone and in the blend",
        [row for name in _SETS for row in _rows(name, contenders, settings)],
        f"{_METRIC} on recorded candidates (100 by words, up to 100 neighbours more) by the "
        "sidecar's formulas. 'reads': the best so many of the blend without a model. 'alone': "
        f"those by the model only, the others as they were; 'p' of that to {SMALL}. 'at …': in "
        "the blend with that share of relevance, and its 'p' to none. Paired randomisation tests.",
    ).publish()


def _rows(name: str, contenders: Contenders, settings: Settings) -> list[dict[str, Any]]:
    data = recorded(name, settings, indexed=False)
    encoder = Encoder.load(Registry(settings.registry_path).get(data.encoder))
    texts = read_texts(name, data)
    found = dict(pages(data, texts, encoder, settings.item_vectors))

    def judged(order: Callable[[Page, Floats], list[str]], logits: Mapping[str, Floats]) -> Judged:
        return judged_by_query({q: order(page, logits[q]) for q, page in found.items()}, data)

    unread = {query: np.full(len(page.ids), np.nan, np.float32) for query, page in found.items()}
    came = judged(lambda page, _: page.ids, unread)
    none = judged(lambda page, _: page.names(page.order()), unread)
    rows = [_row(name, "as it came", 0, came), _row(name, "none", 0, none)]
    small: dict[int, Judged] = {}
    for model, score in _scores(contenders, texts).items():
        logits = {query: _read(page, score) for query, page in found.items()}
        for reads in _READ:
            alone = judged(partial(_alone, reads=reads), logits)
            # SMALL is the first of all.
            against = small.setdefault(reads, alone)
            blended = [judged(partial(_blended, reads=reads, share=s), logits) for s in _SHARES]
            rows.append(
                _row(name, model, reads, alone, _p(alone, against))
                | {
                    column: value
                    for share, one in zip(_SHARES, blended, strict=True)
                    for column, value in (
                        (f"at {share:g}", round(one.mean(_METRIC), 4)),
                        (f"p {share:g}", _p(one, none)),
                    )
                }
            )
    return rows


def _scores(contenders: Contenders, texts: Texts) -> Mapping[str, Score]:
    """Those of each contender, SMALL first."""
    late, passages = contenders.late, texts.passages

    def by(model: Any) -> Score:
        return lambda query, ids: model.score(query, [passages[id_] for id_ in ids])

    def by_late(items: Mapping[str, Any]) -> Score:
        return lambda query, ids: late.score(late.query(query), [items[id_] for id_ in ids])

    scores = {SMALL: by(contenders.models[SMALL])}
    scores |= {name: by(model) for name, model in contenders.models.items() if name != SMALL}
    for kept in KEPT:
        stored = late.items(list(passages.values()), kept)
        scores[late_name(kept)] = by_late(dict(zip(passages, stored, strict=True)))
    return scores


def _row(
    name: str, model: str, reads: int, alone: Judged, p: float | None = None
) -> dict[str, Any]:
    columns = [f"{column} {share:g}" for share in _SHARES for column in ("at", "p")]
    return {
        "what": name,
        "model": model,
        "reads": reads,
        "alone": round(alone.mean(_METRIC), 4),
        "p": p,
        **dict.fromkeys(columns),
    }


def _p(one: Judged, other: Judged) -> float:
    return round(compare(one, other, _METRIC).p, 3)


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
