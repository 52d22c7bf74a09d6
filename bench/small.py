"""A cross-encoder that is small enough to be trained in minutes on a processor.

Where there is only a large one, it loses layers and is distilled anew, on a catalogue alone: what
is asked are words of titles, and the large model says what answers them. No judgment is looked at,
so that all of them can measure what is trained on from there.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from bench.judged import folder_of
from neuralrank.judging import Judgments
from neuralrank.models import Checkpoint
from neuralrank.registry import Registry
from trainer.compress.compressing import CompressOptions, compress
from trainer.dataset import Dataset
from trainer.dataset.finding import Bm25
from trainer.dataset.format import ITEMS
from trainer.dataset.from_judgments import JudgmentOptions, from_judgments
from trainer.dataset.items import read_items
from trainer.dataset.negatives import Finders
from trainer.dataset.splits import Shares
from trainer.loop import TrainingOptions
from trainer.text import read_source

__all__ = ["small_model"]

_SET: Final = "esci_en"
_TITLES: Final = 400
_OTHERS: Final = 7


def small_model(
    source: str, layers: int, registry: Registry, folder: Path, say: Callable[[str], None]
) -> Checkpoint:
    """The source; with fewer layers, where it has more.

    Args:
        source: as of `neuralrank train reranker --from`.
        folder: where what is made is kept, and gone on with.

    Raises:
        InvalidInput: the source is no cross-encoder.
        NotFound: there is no such source, or the data is not there.
    """
    found = read_source(source, registry)
    if found.config.layers <= layers:
        return found
    out = folder / f"{source.replace(':', '-').replace('/', '-')}-{layers}"
    made = out / "variants" / "int8"
    if not (out / "made").is_file():
        training = TrainingOptions(
            out=out, epochs=4, batch_size=8, learning_rate=1e-4, max_length=64, track="none"
        )
        compress(_titles(), found, CompressOptions(layers, name="small"), training, say)
        (out / "made").touch()
    return read_source(str(made), registry)


def _titles() -> Dataset:
    """Words of titles, the item of each, and others that BM25 finds for them."""
    items, headlines = read_items(folder_of(_SET) / "catalogue.jsonl.gz")
    # Of an item its title and brand alone: the large model takes minutes for whole texts.
    items = items.set_column(items.schema.get_field_index("text"), ITEMS.field("text"), [headlines])
    names, titles = items["item_id"].to_pylist(), items["title"].to_pylist()
    bm25, chance = Bm25(headlines), random.Random(0)
    texts: dict[str, str] = {}
    grades: dict[str, dict[str, int]] = {}
    for row in chance.sample(range(len(names)), _TITLES):
        text = _words(titles[row], chance)
        found = np.argsort(-bm25.scores(text), kind="stable")[: _OTHERS + 1]
        texts[names[row]] = text
        grades[names[row]] = {names[other]: 0 for other in found} | {names[row]: 1}
    return from_judgments(
        Judgments(texts, grades),
        items,
        Finders(headlines, bm25, None),
        JudgmentOptions(Shares(dev=0.1, test=0.02), negatives=0),
        f"titles of {_SET}",
        lambda *_: None,
    )


def _words(title: str, chance: random.Random) -> str:
    words = title.split()
    start = chance.randrange(max(1, len(words) - 4))
    return " ".join(words[start : start + chance.randint(2, 4)])
