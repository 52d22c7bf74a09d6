"""A shop of four kinds of things, and users who each like one kind. Content says the kind."""

import numpy as np
from numpy.typing import NDArray

from neuralrank.personal.inputs import Columns, action_numbers
from trainer.personal.behaviour import Behaviour, History, Part, Visit
from trainer.personal.shop import Shop

KINDS, OF_A_KIND, DIMENSIONS = 4, 10, 12
ITEMS = KINDS * OF_A_KIND
Floats = NDArray[np.float32]


def unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def shop(random: np.random.Generator) -> Shop:
    kinds = np.arange(ITEMS) % KINDS
    centres = random.standard_normal((KINDS, DIMENSIONS))
    noise = 0.5 * random.standard_normal((ITEMS, DIMENSIONS))
    brands = [f"brand {item % 7}" for item in range(ITEMS)]
    columns = Columns.of(
        brands, [["all", f"kind {kind}"] for kind in kinds], [10.0 + n for n in range(ITEMS)], {}
    )
    ids = tuple(f"i{n}" for n in range(ITEMS))
    return Shop(ids, unit(centres[kinds] + noise), columns, "enc@0123456789ab")


def behaviour(visits: int = 60, users: int = 80, seed: int = 3) -> Behaviour:
    """On a page stand five kinds of things; who likes a kind clicks that."""
    random = np.random.default_rng(seed)
    things = shop(random)

    def history(kind: int) -> History:
        items = kind + KINDS * random.permutation(OF_A_KIND)[:5]
        return History(items.astype(np.int64), action_numbers(["view", "click"] * 2 + ["purchase"]))

    def visit(kind: int) -> Visit:
        shown = np.array(
            [k + KINDS * int(random.integers(OF_A_KIND)) for k in random.permutation(KINDS)]
        )
        gains = np.where(shown % KINDS == kind, 2.0, 0.0).astype(np.float32)
        match = random.random(KINDS).astype(np.float32)
        # Of every seventh page nobody knows who saw it.
        own = history(kind) if random.integers(7) else History(*np.zeros((2, 0), np.int64))
        return Visit(own, int(random.integers(3)), shown, gains, match)

    def part(pages: int, people: int) -> Part:
        return Part(
            tuple(visit(n % KINDS) for n in range(pages)),
            tuple(history(n % KINDS) for n in range(people)),
        )

    queries = unit(random.standard_normal((3, DIMENSIONS)))
    return Behaviour(things, part(visits, users), part(20, 20), queries, f"made up {seed}")
