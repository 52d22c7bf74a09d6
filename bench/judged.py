"""Datasets of the judged sets, as `neuralrank train dataset --judgments` makes them."""

from bench.candidates import folder_of
from neuralrank.judging import Judgments
from trainer.dataset import Dataset
from trainer.dataset.finding import Bm25
from trainer.dataset.from_judgments import JudgmentOptions, from_judgments
from trainer.dataset.items import read_items
from trainer.dataset.negatives import Finders
from trainer.dataset.splits import Shares

__all__ = ["judged_dataset"]


def judged_dataset(name: str, shares: Shares) -> Dataset:
    """The dev judgments of a set, split by query, with hard negatives by BM25.

    Raises:
        NotFound: the data is not there.
    """
    data = folder_of(name)
    items, headlines = read_items(data / "catalogue.jsonl.gz")
    return from_judgments(
        Judgments.read(data / "qrels.dev.tsv", data / "queries.dev.tsv"),
        items,
        Finders(headlines, Bm25(headlines), None),
        JudgmentOptions(shares, negatives=4),
        f"{name} dev",
        lambda *_: None,
    )
