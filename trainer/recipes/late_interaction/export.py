"""From the trained model to a graph that is known to compute the same."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from neuralrank.bundles.bundle import MODEL, TOKENIZER
from neuralrank.errors import InvalidBundle
from neuralrank.files.whole import write_whole
from neuralrank.models.bert import Precision, write_bert
from trainer.recipes.late_interaction.model import MaxSim
from trainer.recipes.late_interaction.serving import FACTS, Kept, LateInteraction
from trainer.recipes.small_reranker.lists import Floats
from trainer.text import sizes_of, weights_of

__all__ = ["export"]

# Of float32 to torch, as a share of the scores' spread: other kernels add in another order.
_EXACT: Final = 1e-3
# What int8 in graph and store may cost, as the correlation of its scores with torch's.
_ROUNDED: Final = 0.95


def export(
    model: MaxSim,
    tokenizer: bytes,
    folder: Path,
    facts: Mapping[str, Any],
    lists: Sequence[tuple[str, list[str]]],
    wanted: Floats,
) -> float:
    """Writes graph, tokenizer and facts into a folder, replacing what is there.

    Args:
        facts: `max_tokens`, and what is known of the training.
        lists: queries with texts, on which it is compared with torch.
        wanted: torch's scores of them, [lists, texts].

    Returns:
        The correlation of scores by the int8 graph and int8 vectors with torch's.

    Raises:
        InvalidBundle: it does not compute what torch does.
    """
    facts = {
        **facts,
        "scale": model.log_scale.exp().item(),
        "offset": model.offset.item(),
        "dimensions": model.tokens.projection.out_features,
    }
    exact = _scores(_write(model, tokenizer, folder, facts, "fp32"), lists, "float32")
    apart = float(np.abs(exact - wanted).max()) / max(float(wanted.std()), 1e-6)
    if apart > _EXACT:
        raise InvalidBundle(
            f"The exported graph gives other scores than torch: up to {apart:.2g} of their spread "
            f"apart on {len(lists)} lists (allowed {_EXACT:.0e}). Please report this."
        )
    rounded = _scores(_write(model, tokenizer, folder, facts, "int8"), lists, "int8")
    correlation = float(np.corrcoef(wanted.ravel(), rounded.ravel())[0, 1])
    if correlation < _ROUNDED:
        raise InvalidBundle(
            f"In int8 the scores correlate with torch's by {correlation:.3f} only (at least "
            f"{_ROUNDED} is wanted): rounding costs this model too much. Train it longer."
        )
    return correlation


def _write(
    model: MaxSim,
    tokenizer: bytes,
    folder: Path,
    facts: Mapping[str, Any],
    precision: Precision,
) -> LateInteraction:
    folder.mkdir(parents=True, exist_ok=True)
    tokens = model.tokens
    onnx.save(write_bert(weights_of(tokens), sizes_of(tokens), "tokens", precision), folder / MODEL)
    write_whole(folder / TOKENIZER, tokenizer)
    text = json.dumps({**facts, "precision": precision}, indent=2, ensure_ascii=False)
    write_whole(folder / FACTS, f"{text}\n")
    return LateInteraction(folder)


def _scores(model: LateInteraction, lists: Sequence[tuple[str, list[str]]], kept: Kept) -> Floats:
    """[lists, texts]."""
    return np.array(
        [model.score(model.query(query), model.items(texts, kept)) for query, texts in lists]
    )
