"""Trains a cross-encoder on judged or clicked pairs, or on what a larger one says of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from neuralrank.bundles.bundle import Bundle, require_name
from neuralrank.errors import InvalidInput, InvalidSettings
from neuralrank.models import Checkpoint
from neuralrank.models.bert import Precision
from trainer.dataset import Dataset
from trainer.loop import Outcome, Rows, Task, TrainingOptions, processes, train
from trainer.loop.trials import Found, fitted
from trainer.text import losses
from trainer.text.export import Agreement, export
from trainer.text.judged import Judged, mean_ndcg
from trainer.text.methods import Adapted, adapt, merged
from trainer.text.model import TextModel
from trainer.text.reading import Reader
from trainer.text.scoring import run
from trainer.text.sources import BUNDLE
from trainer.text.teacher import teach

__all__ = ["METRIC", "Loss", "Reranked", "RerankerOptions", "train_reranker"]

METRIC: Final = "nDCG@10"
Loss = Literal["bce", "pairwise", "lambda", "margin-mse"]
# Pairs on which the bundle is compared with torch.
_SAMPLE: Final = 64


@dataclass(frozen=True)
class RerankerOptions:
    """What is particular to a cross-encoder.

    Raises:
        InvalidSettings: a value is outside its range.
        InvalidInput: no bundle can have that name.
    """

    loss: Loss = "bce"
    # Items of a query in one list, of those there are by chance; not for bce.
    list_size: int = 8
    # Queries of the dev part that are evaluated, by chance. 0: all.
    dev_queries: int = 500
    # The bundle's name and languages; empty: the source's.
    name: str = ""
    languages: tuple[str, ...] = ()
    # Of the bundle.
    precision: Precision = "int8"

    def __post_init__(self) -> None:
        require_name(self.name)
        if self.loss not in get_args(Loss):
            raise InvalidSettings(
                f"--loss is {self.loss!r}; allowed is {', '.join(get_args(Loss))}."
            )
        if self.precision not in get_args(Precision):
            raise InvalidSettings(
                f"--bundle-precision is {self.precision!r}; allowed is fp32, int8."
            )
        if self.list_size < 2:
            raise InvalidSettings(f"--list-size is {self.list_size}; allowed is 2 or more.")


@dataclass(frozen=True)
class Reranked:
    """What came out; `bundle` and `agreement` are the main process's only."""

    outcome: Outcome
    bundle: Bundle | None
    agreement: Agreement | None
    # What `--trials` came to; None: there was no search.
    search: Found | None = None


def train_reranker(
    dataset: Dataset,
    source: Checkpoint,
    options: RerankerOptions,
    training: TrainingOptions,
    *,
    teacher: Checkpoint | None = None,
    trials: int = 0,
) -> Reranked:
    """Trains, and makes a bundle of the best checkpoint in the run's folder.

    Args:
        source: a cross-encoder, or an encoder, which gets a new head.
        teacher: for margin-mse.
        trials: so many trainings with other learning rates; the best one counts.

    Raises:
        InvalidInput: there is nothing to learn from: no pair, or one label only; or what `train`
            raises.
        InvalidSettings: options that do not go together.
        InvalidBundle: the model can't be exported; see `export`.
    """
    if (teacher is None) == (options.loss == "margin-mse"):
        raise InvalidSettings("--teacher goes with --loss margin-mse, and that needs it.")
    data = _Data.of(dataset, source, options, training, teacher)

    def fit(chosen: TrainingOptions) -> tuple[Adapted, Outcome]:
        model = TextModel(source, "score", seed=chosen.seed)
        adapted = adapt(model, chosen.method, chosen.total_steps(data.examples), chosen.seed)
        return adapted, train(data.task(adapted), chosen)

    adapted, outcome, found = fitted(training, trials, fit, METRIC)
    if not processes().is_main_process:
        return Reranked(outcome, None, None)
    fields = {
        "name": options.name or _name(source),
        "languages": options.languages or source.fields.get("languages", ()),
        "max_tokens": data.reader.max_tokens,
        "licence": source.fields.get("licence", ""),
        "source": source.fields.get("source", ""),
        "parent": source.fields.get("parent", ""),
        "training_window": dataset.description.window.interval,
        "metrics": {
            f"dev {METRIC}": outcome.best[METRIC],
            f"dev {METRIC} before": outcome.before[METRIC],
        },
    }
    bundle, agreement = export(
        merged(adapted.model).cpu(),
        source.tokenizer,
        training.out / BUNDLE,
        fields,
        options.precision,
        data.sample(),
    )
    return Reranked(outcome, bundle, agreement, found)


def _name(source: Checkpoint) -> str:
    """A name holds bundles of one kind only."""
    name = str(source.fields.get("name", "reranker"))
    return name if source.head == "score" else f"{name[:55]}-reranker"


@dataclass(frozen=True, eq=False)
class _Data:
    """The pairs of train and dev, read once."""

    train: Judged
    dev: Judged
    # Numbers of what an example is: pairs for bce, else queries.
    units: Rows
    reader: Reader
    options: RerankerOptions
    identity: dict[str, Any]
    taught: Any = None

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        source: Checkpoint,
        options: RerankerOptions,
        training: TrainingOptions,
        teacher: Checkpoint | None,
    ) -> "_Data":
        judged = Judged.of(dataset, "train")
        dev = Judged.of(dataset, "dev", options.dev_queries, training.seed)
        if options.loss != "margin-mse" and np.ptp(judged.label) == 0:
            raise InvalidInput(
                f"All {len(judged)} pairs of the train part have the label {judged.label[0]:g}: "
                "one class only teaches nothing. Add judgments of the other kind, or negatives "
                "with `neuralrank train dataset`."
            )
        if not dev.label.any():
            raise InvalidInput(
                "No pair of the dev part is relevant: there is nothing to stop by. Give the "
                "dataset a larger dev part."
            )
        units = np.arange(len(judged))
        if options.loss == "margin-mse":
            units = np.flatnonzero(np.diff(judged.begins) > 1)
        elif options.loss != "bce":
            units = judged.contrasting()
        if not len(units):
            raise InvalidInput(
                f"--loss {options.loss} compares items of one query, and no query of the train "
                "part has two that differ. Add negatives with `neuralrank train dataset`, or take "
                "--loss bce."
            )
        identity = {
            "task": "reranker",
            "dataset": dataset.description.source,
            "dataset_created": dataset.description.created,
            "pairs": len(judged),
            "from": source.fields.get("source", ""),
            # Of what `neuralrank train compress` makes smaller: it says more than its digest.
            "pruned": source.fields.get("pruned", ""),
            "source_weights": source.digest(),
            "loss": options.loss,
            "list_size": options.list_size,
            # The best checkpoint is that of a measurement on these.
            "dev_queries": options.dev_queries,
            "teacher": teacher.fields.get("source", "") if teacher else "",
            "teacher_weights": teacher.digest() if teacher else "",
        }
        taught = None
        if teacher:
            # One process asks; the others read what it wrote.
            with processes().main_process_first():
                taught = teach(teacher, judged, training.out / "teacher")
        reader = Reader.of(source, training.max_length)
        return cls(judged, dev, units, reader, options, identity, taught)

    @property
    def examples(self) -> int:
        return len(self.units)

    def sample(self) -> list[tuple[str, str]]:
        """Pairs of dev, of several queries."""
        rows = np.linspace(0, len(self.dev) - 1, min(_SAMPLE, len(self.dev))).astype(int)
        return [
            (self.dev.queries[self.dev.query[row]], self.dev.texts[self.dev.item[row]])
            for row in rows
        ]

    def task(self, adapted: Adapted) -> Task:
        pairs, dev = self._tokens(self.train), self._tokens(self.dev)
        every = [dev(row) for row in range(len(self.dev))]
        pointwise = self.options.loss == "bce"

        def batch(rows: Rows, random: np.random.Generator) -> dict[str, Any]:
            chosen = self.units[rows]
            lists = [np.array([row]) for row in chosen]
            if not pointwise:
                lists = [self._list(query, random) for query in chosen]
            return self._batch(lists, pairs)

        def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
            return _loss(self.options.loss, model, batch) + adapted.penalty()

        def evaluate(model: nn.Module) -> dict[str, float]:
            return {METRIC: mean_ndcg(self.dev, run(model, every))}

        def describe(row: int) -> str:
            unit = int(self.units[row])
            return self.train.name(unit) if pointwise else f"query {self.train.query_ids[unit]!r}"

        return Task(
            identity=self.identity,
            model=adapted.model,
            examples=self.examples,
            batch=batch,
            loss=loss,
            evaluate=evaluate,
            metric=METRIC,
            describe=describe,
            extra=adapted.extra,
            all_weights_used=True,
        )

    def _tokens(self, judged: Judged) -> Callable[[int], Any]:
        """The tokens of a pair by its number; each text is read once."""
        queries, texts = self.reader.queries(judged.queries), self.reader.halves(judged.texts)
        return lambda row: self.reader.pair(queries[judged.query[row]], texts[judged.item[row]])

    def _list(self, query: int, random: np.random.Generator) -> Rows:
        """Some of a query's pairs, a best and a worst among them."""
        pairs = random.permutation(self.train.pairs_of(query))
        labels = self.train.label[pairs]
        first = [int(labels.argmax()), int(labels.argmin())]
        ends = pairs[sorted(set(first))]
        rest = np.setdiff1d(pairs, ends, assume_unique=True)
        return np.concatenate([ends, rest[: self.options.list_size - len(ends)]])

    def _batch(self, lists: list[Rows], pairs: Callable[[int], Any]) -> dict[str, Any]:
        rows = np.concatenate(lists)
        lengths = np.array([len(each) for each in lists])
        mask = np.arange(lengths.max()) < lengths[:, None]  # [lists, items]

        def spread(values: Any) -> Tensor:
            array = np.zeros(mask.shape, np.float32)
            array[mask] = values[rows]
            return torch.from_numpy(array)

        made = {
            "inputs": self.reader.tensors([pairs(row) for row in rows]),
            "labels": spread(self.train.label),
            "weights": spread(self.train.weight),
            "mask": torch.from_numpy(mask),
        }
        if self.taught is not None:
            made["teacher"] = spread(self.taught)
        return made


def _loss(kind: Loss, model: nn.Module, batch: dict[str, Any]) -> Tensor:
    logits = model(**batch["inputs"])  # [pairs]
    labels, weights, mask = batch["labels"], batch["weights"], batch["mask"]
    if kind == "bce":
        return losses.bce(logits, labels[mask], weights[mask])
    scores = torch.zeros_like(labels).masked_scatter(mask, logits.float())
    if kind == "pairwise":
        return losses.pairwise(scores, labels, weights, mask)
    if kind == "lambda":
        return losses.lambda_loss(scores, labels, weights, mask)
    return losses.margin_mse(scores, batch["teacher"], labels, weights, mask)
