"""From a cross-encoder to a smaller one: drop, silence, distil, cut out, round; each step measured.

The larger model teaches the smaller one (margin-MSE, Hofstätter et al. 2020): what pruning took
away is learnt back from its scores.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from neuralrank.bundles.bundle import MODEL, TOKENIZER, Bundle, require_name
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidInput, InvalidSettings
from neuralrank.files.whole import whole_folder
from neuralrank.models import Checkpoint, measured
from neuralrank.models.bert import Precision, Weights, write_bert
from neuralrank.onnx_file import write_onnx
from neuralrank.text.batching import token_batches
from neuralrank.text.tokens import Tokens
from trainer.compress.importance import measure_importance
from trainer.compress.measuring import Bench, Row
from trainer.compress.pruning import Kept, choose, cut, kept_layers, silence
from trainer.compress.quantize import Feeds, dynamic_int8, static_int8
from trainer.dataset import Dataset
from trainer.loop import TrainingOptions
from trainer.loop.processes import require_one
from trainer.loop.trials import Found
from trainer.text import Reader, TextModel, read_source, sizes_of, weights_of
from trainer.text.judged import Floats, Judged
from trainer.text.losses import bce
from trainer.text.reranker import RerankerOptions, train_reranker

__all__ = ["CompressOptions", "Compressed", "compress"]

# Pairs that importance is measured on, and pairs that fix the scales of static int8.
_PAIRS: Final = 512
_CALIBRATION: Final = 128
_BATCH: Final = 16
# Zeros stay zeros with these.
_METHODS: Final = ("full", "adapters")
_LAYER: Final = re.compile(r"encoder\.layer\.(\d+)\.")
_INT8: Final = "int8, a scale a token"


@dataclass(frozen=True)
class CompressOptions:
    """What stays of the model.

    Raises:
        InvalidInput: a share is not above 0 and at most 1, or no bundle can have that name.
    """

    # Layers; 0: all.
    layers: int = 0
    # Shares of the heads and of the intermediate neurons, over all layers together.
    heads: float = 1.0
    intermediate: float = 1.0
    # The bundle's name; empty: the source's.
    name: str = ""

    def __post_init__(self) -> None:
        require_name(self.name)
        for flag, share in (("heads", self.heads), ("intermediate", self.intermediate)):
            if not 0 < share <= 1:
                raise InvalidInput(f"--{flag} is {share}; allowed is above 0 to 1.")
        if self.layers < 0:
            raise InvalidInput(f"--layers is {self.layers}; allowed is 0 (all) or more.")


@dataclass(frozen=True)
class Compressed:
    """`bundle` is the one to serve: smaller, int8 with a scale a token."""

    bundle: Bundle
    rows: tuple[Row, ...]
    # What `trials` of the distillation came to; None: there was no search.
    search: Found | None = None

    def json(self) -> dict[str, Any]:
        return {"ref": self.bundle.ref, "rows": [asdict(row) for row in self.rows]}


def compress(
    dataset: Dataset,
    source: Checkpoint,
    options: CompressOptions,
    training: TrainingOptions,
    progress: Callable[[str], None] = lambda _: None,
    *,
    trials: int = 0,
) -> Compressed:
    """Makes the smaller bundle in `training.out` and measures it beside all that was before it.

    Args:
        training: of the distillation; the same folder again goes on where it stopped.
        progress: called with what is being done, in words.
        trials: so many distillations with other learning rates; the best one counts.

    Raises:
        InvalidSettings: a method of training that zeros would not outlive, or several processes.
        InvalidInput: the source is no cross-encoder, or has fewer layers; or what `train_reranker`
            raises.
        InvalidBundle: a step's model can't be run, or computes something else than it should.
    """
    require_one("Compression", "Start it without torchrun or accelerate.")
    if training.method not in _METHODS:
        raise InvalidSettings(
            f"--method is {training.method}; allowed for compression is {' or '.join(_METHODS)}. "
            "What is pruned is zero while the rest is trained and is then cut out; lora and "
            "adalora would add to these zeros, prefix would give silent heads something to say."
        )
    if source.head != "score":
        name = source.fields.get("name", "The source")
        raise InvalidInput(f"{name} is no cross-encoder; name one that is.")
    train = Judged.of(dataset, "train")
    bench = Bench(Judged.of(dataset, "test" if dataset.of("examples", "test").num_rows else "dev"))
    variants = _Variants(
        training.out / "variants", source, options.name, dataset.description.window.interval
    )

    progress("measuring the model as it is")
    rows = [
        bench.row("as it was, fp32", variants.write("source-fp32", source, "fp32")),
        bench.row(f"as it was, {_INT8}", variants.write("source-int8", source, "int8")),
    ]
    progress("finding what matters least")
    silent, kept = _silenced(source, options, train)
    rows.append(bench.row("pruned, fp32", variants.write("pruned", _cut(silent, kept), "fp32")))

    progress("distilling")
    settings = RerankerOptions(loss="margin-mse", name=variants.name, precision="fp32")
    taught = train_reranker(dataset, silent, settings, training, teacher=source, trials=trials)
    assert taught.bundle is not None  # this is the main process
    learnt = read_source(str(training.out), Registry(str(training.out)))
    whole = variants.write("fp32", _cut(learnt, kept), "fp32")
    bench.same(taught.bundle, whole)
    rows.append(bench.row("pruned and distilled, fp32", whole))

    progress("rounding to int8")
    metrics = {f"{rows[-1].what} nDCG@10": rows[-1].ndcg, f"{rows[0].what} nDCG@10": rows[0].ndcg}
    bundle = variants.write("int8", _cut(learnt, kept), "int8", metrics)
    rows.append(bench.row(f"pruned and distilled, {_INT8}", bundle))
    for what, other in variants.by_onnxruntime(whole, _feeds(learnt, train)):
        rows.append(bench.row(f"pruned and distilled, {what}", other))
    return Compressed(bundle, tuple(rows), taught.search)


def _silenced(
    source: Checkpoint, options: CompressOptions, train: Judged
) -> tuple[Checkpoint, Kept]:
    """The source without the layers that go, and with zeros where heads and neurons go."""
    model = TextModel(source, "score", dropout=0.0)
    layers = model.bert.encoder.layer
    sizes = sizes_of(model)
    size = model.bert.config.hidden_size // sizes.heads
    importance = measure_importance(model, layers, _batches(source, train), _loss, size=size)
    numbers = kept_layers(importance.changes, options.layers or len(layers))
    kept = choose(
        [importance.heads[number] for number in numbers],
        [importance.neurons[number] for number in numbers],
        heads_share=options.heads,
        neurons_share=options.intermediate,
    )
    silence([layers[number] for number in numbers], kept, size)
    weights = _renumbered(weights_of(model), numbers)
    config = replace(sizes, layers=len(numbers))
    # For the identity of the run: a folder with other zeros holds another.
    pruned = f"{len(numbers)} layers, {options.heads:g} heads, {options.intermediate:g} neurons"
    fields = {**source.fields, "pruned": pruned}
    return replace(source, weights=weights, config=config, fields=fields), kept


def _renumbered(weights: Weights, numbers: list[int]) -> Weights:
    """The weights of these layers, as layers 0, 1, …, and all that belongs to none."""
    places = {number: place for place, number in enumerate(numbers)}
    found = {}
    for name, value in weights.items():
        layer = _LAYER.match(name)
        if layer is None:
            found[name] = value
        elif (place := places.get(int(layer[1]))) is not None:
            found[_LAYER.sub(f"encoder.layer.{place}.", name, count=1)] = value
    return found


def _cut(checkpoint: Checkpoint, kept: Kept) -> Checkpoint:
    hidden = checkpoint.weights["embeddings.word_embeddings.weight"].shape[1]
    weights = cut(checkpoint.weights, kept, hidden // checkpoint.config.heads)
    return replace(checkpoint, weights=weights)


def _sampled(checkpoint: Checkpoint, train: Judged, count: int) -> tuple[list[Tokens], Floats]:
    """Pairs from the whole of the train part as a model reads them, and their labels."""
    reader = Reader.of(checkpoint)
    rows = np.unique(np.linspace(0, len(train) - 1, count).astype(int))
    queries = reader.queries([train.queries[query] for query in train.query[rows]])
    texts = reader.halves([train.texts[item] for item in train.item[rows]])
    pairs = [reader.pair(query, text) for query, text in zip(queries, texts, strict=True)]
    return pairs, train.label[rows]


def _batches(source: Checkpoint, train: Judged) -> Iterator[tuple[Mapping[str, Tensor], Tensor]]:
    pairs, labels = _sampled(source, train, _PAIRS)
    for start in range(0, len(pairs), _BATCH):
        part = slice(start, start + _BATCH)
        yield Reader.tensors(pairs[part]), torch.from_numpy(labels[part])


def _loss(model: nn.Module, batch: tuple[Mapping[str, Tensor], Tensor]) -> Tensor:
    inputs, labels = batch
    return bce(model(**inputs), labels, torch.ones_like(labels))


def _feeds(learnt: Checkpoint, train: Judged) -> list[Feeds]:
    """Inputs of the graph, for static int8: pairs of the train part."""
    pairs, _ = _sampled(learnt, train, _CALIBRATION)
    return [
        {name: tensor.numpy() for name, tensor in Reader.tensors([pairs[p] for p in rows]).items()}
        for rows in token_batches([len(pair) for pair in pairs])
    ]


@dataclass(frozen=True)
class _Variants:
    """Bundles beside each other in one folder."""

    folder: Path
    source: Checkpoint
    given_name: str
    # Of the dataset, SINCE/UNTIL; "": it has none.
    window: str

    @property
    def name(self) -> str:
        return self.given_name or str(self.source.fields.get("name", "reranker"))

    def write(
        self,
        variant: str,
        checkpoint: Checkpoint,
        precision: Precision,
        metrics: Mapping[str, float] | None = None,
    ) -> Bundle:
        def write(model: Path) -> None:
            graph = write_bert(checkpoint.weights, checkpoint.config, "score", precision)
            write_onnx(graph, model)

        longest = Reader.of(checkpoint).max_tokens
        return self._bundle(variant, write, self._fields(precision, longest, metrics or {}))

    def by_onnxruntime(
        self, whole: Bundle, calibration: list[Feeds]
    ) -> Iterator[tuple[str, Bundle]]:
        """The same model as ONNX Runtime's tools round it."""
        longest = whole.manifest.max_tokens
        fields = self._fields("int8 dynamic", longest, {})
        made = self._bundle("ort-dynamic", lambda model: dynamic_int8(whole.model, model), fields)
        yield "int8, ONNX Runtime dynamic", made
        inputs = {entry.name for entry in onnx.load(whole.model).graph.input}
        feeds = [{n: v for n, v in batch.items() if n in inputs} for batch in calibration]
        fields = self._fields("int8 static", longest, {})
        made = self._bundle(
            "ort-static", lambda model: static_int8(whole.model, model, feeds), fields
        )
        yield "int8, ONNX Runtime static", made

    def _bundle(
        self, variant: str, write: Callable[[Path], None], fields: dict[str, Any]
    ) -> Bundle:
        with whole_folder(self.folder / variant) as unfinished:
            (unfinished / TOKENIZER).write_bytes(self.source.tokenizer)
            write(unfinished / MODEL)
            measured(unfinished, fields)
        return Bundle.open(self.folder / variant)

    def _fields(self, precision: str, longest: int, metrics: Mapping[str, float]) -> dict[str, Any]:
        """
        Args:
            longest: inputs are cut at so many tokens: what is distilled reads what it was taught
                on (`--max-length`), and not all that the source read.
        """
        known = self.source.fields
        kept = ("languages", "licence", "source", "parent")
        return {
            **{name: known[name] for name in kept if known.get(name)},
            "name": self.name,
            "kind": "cross_encoder",
            "max_tokens": longest,
            "precision": precision,
            "training_window": self.window,
            "metrics": dict(metrics),
        }
