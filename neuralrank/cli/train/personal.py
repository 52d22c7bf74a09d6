"""`neuralrank train personal`: the user × item ranker, from what users did."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuralrank.bundles.registry import Registry
from neuralrank.cli.encoders import default_encoder
from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.cli.registry_options import RegistryUrl, open_registry
from neuralrank.cli.train import train
from neuralrank.cli.train.options import Publish, Trials, training_flags
from neuralrank.cli.train.outcome import Made, searched, show_outcome
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import EXIT_CODE, InvalidInput, InvalidSettings
from neuralrank.progress import progress_bar
from neuralrank.settings import load_settings

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.loop import TrainingOptions
    from trainer.personal.behaviour import Behaviour
    from trainer.personal.learning import Personalised
    from trainer.personal.shop import Shop

__all__ = ["personal"]


@train.command()
@training_flags(without=["max_length"], learning_rate=3e-3, epochs=10.0, batch_size=64)
def personal(
    training: "TrainingOptions",
    dataset: Annotated[
        Path | None,
        typer.Argument(metavar="[DATASET]", help="A folder of `neuralrank train dataset`."),
    ] = None,
    histories: Annotated[
        Path | None,
        typer.Option(
            metavar="TSV", help="Instead: lines of user, tab, items oldest first; or .gz."
        ),
    ] = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --histories: what `neuralrank index` reads."),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(metavar="REF", help="Whose vectors it reads: the index's. Default: as index."),
    ] = "",
    events: Annotated[int, typer.Option(help="Newest events of a user that it reads.")] = 20,
    list_size: Annotated[
        int, typer.Option(help="Candidates of a recommendation in training, one of them chosen.")
    ] = 32,
    width: Annotated[int, typer.Option(help="Of its layers and of user and item vectors.")] = 32,
    id_events: Annotated[
        int,
        typer.Option(help="Items with so many events also get an embedding of their id. 0: none."),
    ] = 5,
    dev_items: Annotated[
        int, typer.Option(help="Items among which the dev part's next ones are looked for.")
    ] = 2_000,
    dev_lists: Annotated[
        int, typer.Option(help="Pages and users of the dev part that are evaluated, each.")
    ] = 500,
    trials: Trials = 0,
    name: Annotated[str, typer.Option(help="The bundle's name.")] = "personal-ranker",
    registry: RegistryUrl = None,
    publish: Publish = True,
    as_json: Json = False,
) -> None:
    """Trains the personal ranker and publishes it as a candidate.

    Examples: neuralrank train personal data --out runs/personal

              neuralrank train personal --histories histories.tsv --catalogue products.jsonl
              --out runs/personal

    It learns which of the shown items were clicked after a search, weighed against position bias,
    and what users did next; both train the same towers. A new user or item needs no id: content
    vectors are enough. It stops when nDCG@10 of the dev part rises no more. The bundle is compared
    with torch before it is published; the first of all, which serves at once, only if it is
    better than nearness alone. Interrupted? The same command goes on.
    """
    from trainer.personal.learning import PersonalOptions, train_personal

    options = PersonalOptions(
        events=events, list_size=list_size, width=width, id_events=id_events,
        dev_items=dev_items, dev_lists=dev_lists, name=name,
    )  # fmt: skip
    found = open_registry(registry)
    behaviour = _behaviour(dataset, histories, catalogue, _encoder(found, encoder))
    result = train_personal(behaviour, options, training, trials=trials)
    if result.bundle is None:  # not the main process
        return
    assert result.floor
    # The first ranker serves at once, with nothing to be compared with but what it replaces.
    first = found.answering(result.bundle.manifest) is None
    published = publish and (result.floor.passed or not first)
    made = Made.of(result.bundle, found, publish=published)
    if as_json:
        print_json_line(_json(result, behaviour, made))
    else:
        rows = _measured(result)
        show_outcome(result.outcome, result.search, made, first=_learned_from(behaviour), then=rows)
        made.next_step()
    if publish and not published:
        bundle = made.bundle
        print(
            f"neuralrank: {bundle.ref} is not published. It would serve at once, and users get "
            f"better by nearness alone: nDCG@10 {result.floor.nearness:.4f} against "
            f"{result.floor.ranker:.4f} on {result.floor.lists:,} lists of the dev part. Learn "
            f"from more, or publish it all the same: neuralrank models add {bundle.path}",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_CODE[InvalidInput])


def _behaviour(
    dataset: Path | None,
    histories: Path | None,
    catalogue: Path | None,
    encoder_of: Callable[[list[str]], Encoder],
) -> "Behaviour":
    """
    Args:
        encoder_of: the encoder of items with these titles.

    Raises:
        InvalidSettings: neither or both of a dataset and histories were given.
    """
    from trainer.dataset import Dataset
    from trainer.dataset.items import read_items
    from trainer.personal import read_histories
    from trainer.personal.behaviour import from_dataset, from_histories

    if (dataset is None) == (histories is None) or (histories is None) != (catalogue is None):
        raise InvalidSettings(
            "Give a DATASET, or --histories with --catalogue: one of both is what it learns from."
        )
    if dataset is not None:
        data = Dataset.open(dataset)
        encoder = encoder_of(data.items["title"].to_pylist())
        return from_dataset(data, _shop(data.items, encoder), encoder.encode_queries)
    assert histories is not None
    assert catalogue is not None
    items, _ = read_items(catalogue)
    encoder = encoder_of(items["title"].to_pylist())
    known = read_histories(histories, items["item_id"].to_pylist())
    places = {item: row for row, item in enumerate(items["item_id"].to_pylist())}
    # Histories number the items by a hash, so that their order says nothing.
    return from_histories(known, _shop(items.take([places[i] for i in known.items]), encoder))


def _shop(items: "pa.Table", encoder: Encoder) -> "Shop":
    from trainer.personal.shop import Shop

    with progress_bar() as bar:
        task = bar.add_task(f"items: {encoder.ref}", total=items.num_rows)
        cache = load_settings().item_vectors
        return Shop.of(items, encoder, cache, lambda done, _: bar.update(task, completed=done))


def _encoder(registry: Registry, ref: str) -> Callable[[list[str]], Encoder]:
    """The one named, whatever the titles of the items; else the default one, which is that of
    `neuralrank index` too. What is wrong is known before the items are read.

    Raises:
        NotFound: there is none.
        InvalidInput: what was named is no encoder.
    """
    if ref:
        bundle = registry.get(ref)
        if bundle.manifest.kind != "encoder":
            raise InvalidInput(
                f"--encoder {bundle.ref} is of kind {bundle.manifest.kind}; allowed is encoder."
            )
        return lambda _: Encoder.load(bundle)
    otherwise = "Or name one with --encoder."
    default_encoder(registry, otherwise=otherwise)
    return lambda titles: Encoder.load(default_encoder(registry, titles, otherwise))


def _json(result: "Personalised", behaviour: "Behaviour", made: Made) -> dict[str, object]:
    assert result.agreement
    return {
        **made.json(),
        "examples": _counts(behaviour),
        **result.outcome.json(),
        **searched(result.search),
        "floor": asdict(result.floor) if result.floor else None,
        "export": result.agreement.metrics(),
        "item_knn": result.item_knn,
    }


def _counts(behaviour: "Behaviour") -> dict[str, int]:
    return {
        f"{part} {what}": len(getattr(getattr(behaviour, part), what))
        for part in ("train", "dev")
        for what in ("visits", "histories")
    }


def _learned_from(behaviour: "Behaviour") -> Iterator[tuple[str, str]]:
    counts = _counts(behaviour)
    for part in ("train", "dev"):
        visits, users = counts[f"{part} visits"], counts[f"{part} histories"]
        yield part, f"{visits:,} pages with a click, {users:,} users"


def _measured(result: "Personalised") -> Iterator[tuple[str, str]]:
    agreement, floor = result.agreement, result.floor
    assert agreement
    assert floor
    if floor.lists:
        yield (
            "without it",
            f"{floor.nearness:.4f} by nearness to what users did, {floor.ranker:.4f} with it, on "
            f"{floor.lists:,} lists of users with events",
        )
    for head, counted in result.item_knn.items():
        yield (
            "with item-kNN",
            f"{counted['network alone']:.4f} → {counted['with item-kNN']:.4f} in {head}: what "
            f"users had together weighs {counted['weight']:g}",
        )
    yield (
        "export",
        f"differs from torch by {agreement.difference:.2g} at most, {agreement.order:.2%} ordered "
        f"alike, on {agreement.lists} lists",
    )
