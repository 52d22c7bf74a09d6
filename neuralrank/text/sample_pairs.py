"""Queries, each with the title of a product that answers it and that of one that does not: what a
model is tried with and measured on (`sample_pairs.tsv`)."""

from dataclasses import dataclass
from importlib.resources import files

__all__ = ["Pair", "read_pairs"]


@dataclass(frozen=True)
class Pair:
    """A query, the title of a product that answers it, and that of another one."""

    language: str
    query: str
    item: str
    other_item: str


def read_pairs(languages: tuple[str, ...] = ()) -> list[Pair]:
    """The pairs in these languages; all where none is named, or none of them is known."""
    lines = (files("neuralrank.text") / "sample_pairs.tsv").read_text(encoding="utf-8")
    pairs = [Pair(*line.split("\t")) for line in lines.splitlines()]
    return [pair for pair in pairs if pair.language in languages] or pairs
