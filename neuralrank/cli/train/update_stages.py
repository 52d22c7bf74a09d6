"""What a round of `neuralrank train update` is made of, on the logs of OpenSearch."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neuralrank.bundles.bundle import parse_ref
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.opensearch.connection import connect
from neuralrank.progress import told
from neuralrank.settings import Settings

if TYPE_CHECKING:
    from neuralrank.bundles.bundle import Bundle
    from trainer.dataset.splits import Shares
    from trainer.loop import TrainingOptions
    from trainer.update.window import Window

__all__ = ["PersonalStages", "TextStages"]

# Of a personal ranker that is trained further; the first training's is three times as high.
_PERSONAL_RATE: Final = 1e-3
# Of a history, an epoch guesses one step by chance; of what a cross-encoder reads, it reads all.
_PERSONAL_EPOCHS: Final = 10.0
_TEXT_EPOCHS: Final = 1.0


@dataclass(frozen=True)
class _Stages:
    """What rounds of all kinds have in common."""

    settings: Settings
    registry: Registry
    catalogue: Path
    # Whose items count, as --index has it.
    index: str
    shares: "Shares"
    training: "TrainingOptions"

    @property
    def finder(self) -> str:
        """The encoder that finds hard negatives, as --encoder has it."""
        return "none"

    def pull(self, window: "Window", folder: Path) -> Mapping[str, int] | None:
        from trainer.update.window import pull_window

        with closing(connect(self.settings, timeout=120.0)) as client, told() as tell:
            return pull_window(client, window, folder, self.index, progress=tell)

    def dataset(self, logs: Path, folder: Path) -> None:
        from neuralrank.cli.train.dataset import finders
        from trainer.dataset.from_logs import LogOptions, from_logs
        from trainer.dataset.items import read_items
        from trainer.feedback import Logs

        items, headlines = read_items(self.catalogue)
        with told() as tell:
            made = from_logs(
                Logs.open(logs),
                items,
                finders(items, headlines, self.finder, tell),
                LogOptions(shares=self.shares),
                f"logs: {logs}",
                tell,
            )
        made.write(folder)

    def published(self, bundle: "Bundle | None") -> str:
        if bundle is None:
            raise InvalidInput("`train update` runs in one process; start it without torchrun.")
        return self.registry.publish(bundle, candidate=True).ref


@dataclass(frozen=True)
class TextStages(_Stages):
    """For a cross-encoder."""

    loss: str
    encoder: str

    @property
    def finder(self) -> str:
        return self.encoder

    @property
    def epochs(self) -> float:
        return self.training.epochs or _TEXT_EPOCHS

    def train(self, dataset: Path, parent: str, folder: Path) -> str:
        from trainer.dataset import Dataset
        from trainer.text import read_source
        from trainer.text.reranker import RerankerOptions, train_reranker

        # What serves in fp32 may do so because int8 costs that model too much.
        served = self.registry.manifest(self.registry.resolve(parent)).precision
        options = RerankerOptions(
            loss=self.loss,  # type: ignore[arg-type]  # checked there
            precision="fp32" if served == "fp32" else "int8",
        )
        result = train_reranker(
            Dataset.open(dataset),
            read_source(parent, self.registry),
            options,
            replace(self.training, out=folder, epochs=self.epochs),
        )
        return self.published(result.bundle)


@dataclass(frozen=True)
class PersonalStages(_Stages):
    """For a personal ranker, on the vectors of the encoder that it was made for."""

    id_events: int

    @property
    def epochs(self) -> float:
        return self.training.epochs or _PERSONAL_EPOCHS

    def train(self, dataset: Path, parent: str, folder: Path) -> str:
        from neuralrank.encoders.encoder import Encoder
        from trainer.dataset import Dataset
        from trainer.personal.behaviour import from_dataset
        from trainer.personal.learning import PersonalOptions, train_personal
        from trainer.personal.shop import Shop
        from trainer.personal.source import read_source

        source = read_source(self.registry.get(parent))
        try:
            encoder = Encoder.load(self.registry.get(source.encoder))
        except NotFound as error:
            raise NotFound(
                f"{parent} reads the vectors of {source.encoder}. {error} Was the index encoded "
                "anew? Then train anew: neuralrank train personal."
            ) from error
        data = Dataset.open(dataset)
        with told() as tell:
            shop = Shop.of(
                data.items, encoder, self.settings.item_vectors,
                lambda done, total: tell("encoding items", done, total),
            )  # fmt: skip
        rate = self.training.learning_rate or _PERSONAL_RATE
        result = train_personal(
            from_dataset(data, shop, encoder.encode_queries),
            PersonalOptions(
                events=source.events, width=source.width, id_events=self.id_events,
                name=parse_ref(parent)[0],
            ),
            replace(self.training, out=folder, learning_rate=rate, epochs=self.epochs),
            source=source,
        )  # fmt: skip
        return self.published(result.bundle)
