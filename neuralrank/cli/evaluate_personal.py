"""`neuralrank evaluate personal`: how well the personal ranker guesses what users do next."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuralrank.catalogue.product import Product, headline
from neuralrank.catalogue.reading import Catalogue
from neuralrank.cli.encoders import default_encoder
from neuralrank.cli.interruption import interruptible
from neuralrank.cli.json_output import Json, print_json
from neuralrank.console import plain_console
from neuralrank.errors import InvalidInput
from neuralrank.progress import progress_bar
from neuralrank.settings import load_settings

if TYPE_CHECKING:
    from trainer.next_items import Content

__all__ = ["personal"]

_SYSTEMS = "popularity,item_knn,matrix_factorisation,sasrec,neuralrank"


def personal(
    catalogue: Annotated[
        Path, typer.Option(metavar="FILE", help="Products: what `neuralrank index` reads.")
    ],
    histories: Annotated[
        Path,
        typer.Option(metavar="TSV", help="Lines of user, tab, items oldest first; or gzip."),
    ],
    targets: Annotated[
        Path, typer.Option(metavar="TSV", help="Lines of user, tab, next item. Never trained on.")
    ],
    systems: Annotated[str, typer.Option(help="Which, separated by commas.")] = _SYSTEMS,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="What is learned is kept here. Default: in the home."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judges guesses of users' next items over the whole catalogue: HitRate@10 and nDCG@10.

    Example: neuralrank evaluate personal --catalogue games.jsonl.gz --histories histories.tsv.gz
    --targets next_item.tsv

    popularity, item_knn, matrix_factorisation and sasrec are baselines, each tuned on the last
    items of the histories. neuralrank is the user × item ranker over candidates of several sources.
    All learn from the histories alone; the targets only measure. Item and user ids, and their
    order, are seen by none. Items that the catalogue does not have are left out of histories, and a
    miss as targets; who has no history gets what is popular. Standard error says how many.

    What is learned is kept by the content of catalogue and histories, and by encoder: other targets
    of the same take a minute. Ctrl-C stops; the same command goes on.
    """
    from trainer.next_items import compare
    from trainer.personal import read_histories, read_targets

    chosen = [name.strip() for name in systems.split(",") if name.strip()]
    texts = _headlines(catalogue)
    watcher = _Terminal()
    known = read_histories(histories, list(texts), watcher.say)
    places, wanted = read_targets(targets, known, watcher.say)
    folder = cache or load_settings().home / "personal"
    with interruptible(f"What was learned is in {folder}; the same command goes on."):
        found = compare(
            known,
            lambda: _content([texts[item] for item in known.items], folder, watcher),
            places,
            wanted,
            chosen,
            folder,
            watcher,
        )
    margin = found.margin()
    for metric in ("HitRate@10", "nDCG@10") if margin else ():
        numbers = margin[metric]
        watcher.say(
            f"{metric} of neuralrank is {numbers['mean']:+.4f} to {margin['baseline']}, 95% "
            f"[{numbers['low']:+.4f}, {numbers['high']:+.4f}]"
        )
    if as_json:
        print_json(found.json())
    else:
        _show(found.json())


def _headlines(path: Path) -> dict[str, str]:
    """What the encoder reads of each product, by id.

    Raises:
        InvalidInput: a row is no product, or an id comes twice.
    """
    texts: dict[str, str] = {}
    for row in Catalogue(path).rows():
        if row.problem:
            raise InvalidInput(f"{path}:{row.line}: {row.problem}")
        try:
            product = Product.from_row(row.value)
        except InvalidInput as error:
            raise InvalidInput(f"{path}:{row.line}: {error}") from error
        if product.id in texts:
            raise InvalidInput(f"{path}:{row.line}: the id {product.id!r} comes twice.")
        texts[product.id] = headline(product)
    if not texts:
        raise InvalidInput(f"{path} has no products.")
    return texts


def _content(texts: list[str], folder: Path, watcher: "_Terminal") -> "Content":
    """Of texts, by the default encoder; made once."""
    from neuralrank.bundles.registry import Registry
    from neuralrank.encoders.encoder import Encoder
    from neuralrank.stack.ranking import fill_registry
    from trainer.dataset.finding import item_vectors
    from trainer.next_items import Content

    url = load_settings().registry_path
    fill_registry(url, watcher.say)
    bundle = default_encoder(Registry(url), texts)
    with progress_bar() as bar:
        task = bar.add_task(f"content: {bundle.ref}", total=len(texts))
        vectors = item_vectors(
            Encoder.load(bundle), texts, folder, lambda done, _: bar.update(task, completed=done)
        )
    digest = hashlib.sha256("\0".join([bundle.ref, *texts]).encode()).hexdigest()
    return Content(digest, vectors)


class _Terminal:
    """Tells what goes on, on standard error."""

    def say(self, text: str) -> None:
        print(f"neuralrank: {text}", file=sys.stderr, flush=True)

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        progress = progress_bar()
        with progress:
            task = progress.add_task(text, total=total)
            yield lambda done: progress.advance(task, done)


def _show(report: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("system", "HitRate@10", "nDCG@10"):
        table.add_column(name, justify="left" if name == "system" else "right")
    for name, numbers in report["systems"].items():
        table.add_row(name, f"{numbers['HitRate@10']:.4f}", f"{numbers['nDCG@10']:.4f}")
    out = plain_console()
    out.print(table)
    out.print(f"{report['users']} users", style="dim", highlight=False)
