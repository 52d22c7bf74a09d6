"""Makes the small cross-encoder: python -m trainer.recipes.small_reranker --out FOLDER

The same command again goes on where it stopped.
"""

from collections.abc import Sequence
from typing import Final

from trainer.recipes.small_reranker.distil import distil
from trainer.recipes.small_reranker.flags import parser, training
from trainer.recipes.small_reranker.material import prepare, say

_FIELDS: Final = {
    "name": "neuralrank-small",
    "kind": "cross_encoder",
    "languages": ("zh", "en"),
    "licence": "Apache-2.0 AND MIT",
    "source": "trainer/recipes/small_reranker",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes it in the folder that is named, or goes on."""
    given = parser("python -m trainer.recipes.small_reranker").parse_args(arguments)
    found = prepare(given.out, given.english, given.chinese, dict(_FIELDS), given.seed)
    made = distil(found.student, found.lists, found.wanted, training(given), {})
    before, best = made.outcome.before, made.outcome.best
    size = sum(file.stat().st_size for file in made.bundle.path.iterdir()) / 1e6
    say(f"{made.bundle.path}: {size:.1f} MB; before {before}, after {best}; {made.agreement}")


if __name__ == "__main__":
    main()
