"""The worked case after training: what was bought and who bought it come nearer to each other.

Without training only the user's vector moves (`test_feedback_changes_next_query.py`). Here the
example's events go from OpenSearch through the trainer, and the vectors that the ranker compares,
of the user and of the item, are measured before and after.
"""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from neuralrank.bundles.registry import Registry  # noqa: E402
from neuralrank.encoders.encoder import Encoder  # noqa: E402
from neuralrank.settings import Settings  # noqa: E402
from tests.e2e.shop import CATALOGUE, open_shop  # noqa: E402
from trainer.dataset import Dataset  # noqa: E402
from trainer.loop import TrainingOptions  # noqa: E402
from trainer.personal.behaviour import Behaviour, from_dataset  # noqa: E402
from trainer.personal.learning import PersonalOptions, train_personal  # noqa: E402
from trainer.personal.lists import Lists  # noqa: E402
from trainer.personal.ranker import RankerModel  # noqa: E402
from trainer.personal.shop import Shop  # noqa: E402
from trainer.personal.source import beginning, known_items  # noqa: E402

OPTIONS = PersonalOptions(id_events=1, dev_items=200)


@pytest.fixture(scope="module")
def behaviour(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Behaviour:
    """Of the example's users: pulled, and made a dataset of, by the commands."""
    shop, folder = open_shop(stack), tmp_path_factory.mktemp("worked-case")
    window = ("--from", "2026-11-01", "--until", "2026-11-25")
    for arguments in (
        ("pull", *window, "--out", str(folder / "logs")),
        ("dataset", "--logs", str(folder / "logs"), "--catalogue", str(CATALOGUE), "--out",
         str(folder / "data"), "--encoder", "none", "--train-until", "2026-11-20T10:30:00Z",
         "--dev-until", "2026-11-25T00:00:00Z"),
    ):  # fmt: skip
        done = shop.run("train", *arguments)
        assert done.returncode == 0, done.stderr
    data = Dataset.open(folder / "data")
    bundles, _ = Registry(stack.registry_path).verified()
    encoder = Encoder.load(next(one for one in bundles if one.manifest.kind == "encoder"))
    things = Shop.of(data.items, encoder, folder, lambda *_: None)
    return from_dataset(data, things, encoder.encode_queries)


def cosines(model: RankerModel, lists: Lists, user: str, items: str) -> dict[str, float]:
    """Of the vector of a user, before they bought, and the items' vectors."""
    numbers = lists.behaviour.shop.numbers
    bought = {"A": "A", "B": "C"}[user]
    history = next(
        one for one in lists.behaviour.train.histories if one.items[-1] == numbers[bought]
    )
    shown = np.array([numbers[name] for name in items])
    batch = lists.batch([lists.guess_of(history, len(history) - 1, shown)])
    with torch.no_grad():
        found = model.eval().read(batch.inputs)[1].cosine[0].tolist()
    order = [bought, *(name for name in items if name != bought)]
    return dict(zip(order, found, strict=True))


def test_what_was_bought_and_who_bought_it_come_nearer_to_each_other(
    behaviour: Behaviour, tmp_path: Path
) -> None:
    known = known_items(behaviour, OPTIONS.id_events)
    lists = Lists.of(behaviour, OPTIONS.events, OPTIONS.list_size, known)
    fresh = beginning(lists, OPTIONS.width, 0)
    training = TrainingOptions(
        tmp_path / "run", epochs=40, batch_size=8, learning_rate=3e-3, track="none", patience=0
    )
    trained = train_personal(behaviour, OPTIONS, training).model
    for user, bought, others in (("A", "A", "CD"), ("B", "C", "AB")):
        before = cosines(fresh, lists, user, "ABCD")
        after = cosines(trained, lists, user, "ABCD")
        assert after[bought] > before[bought] + 0.02
        # And not because all came nearer: what the user did not want stays further away.
        for other in others:
            assert after[bought] - after[other] > before[bought] - before[other]
            assert after[bought] > after[other]
