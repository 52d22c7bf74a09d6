"""From a trained model to a bundle that is known to compute the same.

Weights go to the same graph writer as those of every other bundle (`neuralrank.models.bert`), not
through torch's exporter. The bundle is then run by the code that serves it and compared with torch;
one that does not load or that orders otherwise is never published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from neuralrank.bundles.bundle import MODEL, TOKENIZER, Bundle, write_bundle
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidBundle
from neuralrank.files.whole import whole_folder
from neuralrank.models import measured
from neuralrank.models.bert import Precision, write_bert
from neuralrank.onnx_file import write_onnx
from neuralrank.text.cleaning import clean
from neuralrank.text.exclusions import as_read
from trainer.text.model import TextModel, sizes_of, weights_of
from trainer.text.reading import Reader
from trainer.text.scoring import encode, score_pairs

__all__ = ["Agreement", "export"]

# Of float32 to torch: other kernels add in another order.
_EXACT: Final = 1e-3
# What int8 may cost, as the correlation of its outputs with torch's.
_ROUNDED: Final = 0.95

Pair = tuple[str, str]


@dataclass(frozen=True)
class Agreement:
    """How a bundle's outputs compare with torch's, on the same texts."""

    texts: int
    # The largest difference of a score (or of a vector's number).
    difference: float
    # Pearson's, of all outputs. 1 where torch's are all the same, 0 where only the bundle's are.
    correlation: float
    # Share of pairs of texts that both order alike, of those that torch sets apart by more than
    # float32's noise.
    order: float

    def metrics(self) -> dict[str, float]:
        """For the manifest."""
        return {
            "onnx difference": self.difference,
            "onnx correlation": self.correlation,
            "onnx order": self.order,
        }


def export(
    model: TextModel,
    tokenizer: bytes,
    folder: Path,
    fields: Mapping[str, Any],
    precision: Precision,
    sample: Sequence[Pair],
) -> tuple[Bundle, Agreement]:
    """Writes the bundle of a model into a folder, replacing what is there; where it raises, nothing
    is replaced.

    Args:
        model: with whatever small weights it was trained with merged in.
        tokenizer: `tokenizer.json`.
        fields: the manifest's name, languages, max_tokens, parent, metrics and so on.
        sample: (query, text) pairs on which it is compared with torch, in the normal form that
            models are given where they serve; an encoder's are compared as the texts that they are.

    Raises:
        InvalidBundle: the runtime can't load it, or it does not compute what torch does.
        OSError: such as from a full disk.
    """
    reader = Reader(tokenizer, int(fields["max_tokens"]))
    sample = [(as_read(query), clean(text)) for query, text in sample]
    wanted = _torch(model, reader, sample, fields)
    with whole_folder(folder) as unfinished:
        made = _write(model, tokenizer, unfinished, fields, "fp32")
        agreement = _compare(wanted, _served(made, sample))
        if agreement.difference > _EXACT or agreement.order < 1.0:
            raise InvalidBundle(
                f"The exported graph gives other numbers than torch: up to "
                f"{agreement.difference:.2g} apart on {agreement.texts} texts (allowed "
                f"{_EXACT:.0e}), {agreement.order:.2%} ordered alike. It is not published; please "
                "report this."
            )
        if precision == "int8":
            made = _write(model, tokenizer, unfinished, fields, "int8")
            agreement = _compare(wanted, _served(made, sample))
            if agreement.correlation < _ROUNDED:
                raise InvalidBundle(
                    f"In int8 the scores correlate with torch's by {agreement.correlation:.3f} "
                    f"only (at least {_ROUNDED} is wanted): rounding costs this model too much. "
                    "It is not published; train it with --bundle-precision fp32. `train update` "
                    "writes what it goes on from: fp32 where that is fp32."
                )
        metrics = {**fields.get("metrics", {}), **agreement.metrics()}
        found = made.manifest.model_dump(exclude={"files"})
        write_bundle(unfinished, {**found, "metrics": metrics})
    return Bundle.open(folder), agreement


def _write(
    model: TextModel,
    tokenizer: bytes,
    folder: Path,
    fields: Mapping[str, Any],
    precision: Precision,
) -> Bundle:
    graph = write_bert(weights_of(model), sizes_of(model), model.head, precision)
    write_onnx(graph, folder / MODEL)
    (folder / TOKENIZER).write_bytes(tokenizer)
    kind: dict[str, Any] = {"kind": "cross_encoder"}
    if model.head != "score":
        hidden = model.bert.config.hidden_size
        kind = {"kind": "encoder", "dimensions": hidden, "normalized": True}
    return measured(folder, {**fields, **kind, "precision": precision})


def _torch(
    model: TextModel, reader: Reader, sample: Sequence[Pair], fields: Mapping[str, Any]
) -> NDArray[np.float32]:
    model.eval()
    with torch.no_grad():
        if model.head == "score":
            return score_pairs(model, reader, sample)
        prefix = str(fields.get("passage_prefix", ""))
        return encode(model, reader, [text for _, text in sample], prefix)


def _served(bundle: Bundle, sample: Sequence[Pair]) -> NDArray[np.float32]:
    if bundle.manifest.kind == "encoder":
        return Encoder.load(bundle).encode_passages([text for _, text in sample])
    model = CrossEncoder.load(bundle)
    by_query: dict[str, list[int]] = {}
    for row, (query, _) in enumerate(sample):
        by_query.setdefault(query, []).append(row)
    scores = np.empty(len(sample), np.float32)
    for query, rows in by_query.items():
        scores[rows] = model.score(query, [sample[row][1] for row in rows])
    return scores


def _compare(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> Agreement:
    if not np.isfinite(found).all():
        raise InvalidBundle("The exported graph gives NaN or infinity. It is not published.")
    difference = float(np.abs(wanted - found).max(initial=0.0))
    correlation = float(np.ptp(wanted) == 0)
    if np.ptp(wanted) > 0 and np.ptp(found) > 0:
        correlation = float(np.corrcoef(wanted.ravel(), found.ravel())[0, 1])
    first = wanted if wanted.ndim == 1 else wanted @ wanted[0]
    second = found if found.ndim == 1 else found @ found[0]
    apart, also = first[:, None] - first, second[:, None] - second
    clear = apart > 1e-4
    order = float((also[clear] > 0).mean()) if clear.any() else 1.0
    return Agreement(len(wanted), difference, correlation, order)
