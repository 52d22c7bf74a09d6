"""`python -m examples.demo`: what neuralrank does to a query, on the running local stack.

Indexes the example catalogues, loads the example events, and prints queries side by side: lexical
order, after recall with vectors, after re-ranking for a user, and why each hit moved. Everything is
done with the `neuralrank` command and the search request that an application would send. It may be
run again and again: what is indexed already is left as it is.
"""

import argparse
import gzip
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch
from rich.console import Console
from rich.text import Text

from neuralrank.bundles.registry import Registry
from neuralrank.cli.results import side_by_side
from neuralrank.console import table_console
from neuralrank.errors import NeuralrankError, NotFound, exit_code
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.page import NO_PIPELINE, Page, ask
from neuralrank.settings import Settings, load_settings
from opensearch_config import lexical_query

HERE = Path(__file__).resolve().parent
EVENTS = HERE / "events" / "ubi.ndjson"
# Reasons of a degraded page that are gone when the same is asked again.
TOO_LATE = {"deadline", "features_unavailable", "overload", "sidecar_unavailable"}
# Half of what the plugin waits, since it waits for the vectors too.
MORE_TIME = {"deadline_ms": 200}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A file of products and the alias that it is indexed under."""

    alias: str
    path: Path

    def content(self) -> str:
        """A hash of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def products(self, limit: int) -> list[bytes]:
        """The first lines; all of them with a limit of 0."""
        compressed = self.path.suffix == ".gz"
        with gzip.open(self.path) if compressed else self.path.open("rb") as lines:
            return list(itertools.islice(lines, limit or None))

    def total(self) -> int:
        return len(self.products(0))


CATALOGUES = (
    Catalogue("examples", HERE / "catalogue" / "products.jsonl"),
    Catalogue("goods", HERE / "goods_zh" / "catalogue.jsonl.gz"),
    Catalogue("esci", HERE / "esci" / "catalogue.jsonl.gz"),
)


def main() -> int:
    """Runs the demo; the exit code is that of the error that stopped it, as for `neuralrank`."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument(
        "--limit",
        type=int,
        default=0,
        metavar="N",
        help="index only the first N products of each catalogue (default: all; the ESCI sample's "
        "6,764 take some minutes on two cores)",
    )
    parser.add_argument("--size", type=int, default=8, help="hits a list (default: 8)")
    arguments = parser.parse_args()
    out = table_console()
    try:
        settings = load_settings()
        with closing(connect(settings)) as client:
            prepare(out, client, settings, arguments.limit)
            show(out, client, arguments.size)
        farewell(out, settings)
    except NeuralrankError as error:
        print(f"demo: {error}", file=sys.stderr)
        return exit_code(error)
    except subprocess.CalledProcessError as error:
        # The command has said on standard error what went wrong.
        return int(error.returncode)
    return 0


# ------------------------------------------------------------------------------------- prepare


def prepare(out: Console, client: OpenSearch, settings: Settings, limit: int) -> None:
    """Indexes what is not indexed yet and loads the events."""
    headline(out, "1. Catalogues become indexes, events become profiles")
    # What this demo has indexed: for each alias the content of the file.
    notes = settings.home / "demo.json"
    contents: dict[str, str] = json.loads(notes.read_text()) if notes.is_file() else {}
    bundles, _ = Registry(settings.registry_path).verified()
    served = {bundle.ref for bundle in bundles}
    for catalogue in CATALOGUES:
        alias, content = catalogue.alias, catalogue.content()
        wanted = catalogue.products(limit)
        count, encoder = indexed(client, alias)
        if count >= len(wanted) and encoder in served and contents.get(alias, content) == content:
            out.print(f"{alias}: {count:,} products are indexed already, by {encoder}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = catalogue.path
            if len(wanted) < catalogue.total():
                path = Path(folder) / f"{alias}-first-{len(wanted)}.jsonl"
                path.write_bytes(b"".join(wanted))
                out.print(f"\n{alias}: the first {len(wanted):,} of {catalogue.total():,} products")
            neuralrank(out, "index", str(path), "--index", alias)
        contents[alias] = content
        notes.write_text(json.dumps(contents))
    neuralrank(out, "feedback", "load", str(EVENTS))


def indexed(client: OpenSearch, alias: str) -> tuple[int, str]:
    """How many products are behind an alias, and the encoder of their vectors."""
    try:
        mappings = client.indices.get_mapping(index=alias)
        count = client.count(index=alias)["count"]
    except NotFound:
        return 0, ""
    ((_, mapping),) = mappings.items()
    meta = mapping["mappings"].get("_meta", {}).get("neuralrank", {})
    return count, meta.get("encoder", "")


def neuralrank(out: Console, *arguments: str) -> None:
    """Runs the command as a person would, and shows how."""
    shown = (a.removeprefix(f"{HERE.parent}/") for a in arguments)
    out.print(Text(f"\n$ neuralrank {' '.join(shown)}", style="bold cyan"))
    command = "from neuralrank.cli import main; main()"
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", command, *arguments], check=True)


# ---------------------------------------------------------------------------------------- show


def show(out: Console, client: OpenSearch, size: int) -> None:
    """The queries of the demo, each beside its lexical order."""
    headline(out, "2. One query, two users: 电脑 (computer)")
    out.print("A looked at two computers and bought one; B looked at two phones and bought one.\n")
    for_users(out, client, "examples", "电脑", ("A", "B"), size)

    headline(out, "3. No query: what is recommended, what was bought left out")
    recommended = [(f"for user {u}", recommend(client, "examples", u, size)) for u in ("A", "B")]
    side_by_side(out, recommended, moves=False)
    for heading, page in recommended:
        for item in page.dropped:
            out.print(Text(f"{heading}: {item['id']} left out, {item['reason']}", style="dim"))

    english = "cone to stop my dog licking its wound"
    headline(out, f"4. English: {english}")
    for_users(out, client, "esci", english, (), size)

    headline(out, "5. Chinese: 冬天盖的暖和被子 (a warm quilt for winter)")
    for_users(out, client, "goods", "冬天盖的暖和被子", (), size)


def for_users(
    out: Console, client: OpenSearch, index: str, text: str, users: tuple[str, ...], size: int
) -> None:
    """Lexical order, recall with vectors, and re-ranked: for each user, or for nobody."""
    query = lexical_query(text)

    def page(options: dict[str, Any] | None) -> Page:
        pipeline = {"pipeline": NO_PIPELINE} if options is None else {}
        return settled(client, index, query, options, text=text, size=size, **pipeline)

    pages = [
        ("lexical", page(None)),
        ("recall with vectors", page({"bundle": "none", "explain": True})),
    ]
    if users:
        pages += [(f"re-ranked for {u}", page({"user_id": u, "explain": True})) for u in users]
    else:
        pages.append(("re-ranked", page({"explain": True})))
    side_by_side(out, pages)
    for heading, each in pages[1:]:
        for note in each.degraded:
            detail = f"{heading}: {note['reason']}. {note.get('detail', '')}"
            out.print(Text(detail, style="dim"))


def recommend(client: OpenSearch, index: str, user: str, size: int) -> Page:
    """As `neuralrank recommend`: no query, the user's interests are the query vector."""
    options = {"user_id": user, "explain": True, "filters": {"exclude_purchased": True}}
    return settled(client, index, {"match_all": {}}, options, size=size)


def settled(
    client: OpenSearch, index: str, query: dict[str, Any], options: Any, **more: Any
) -> Page:
    """One page, asked again where a part of it came too late: caches warm up on first use. On a
    machine that is busy with other things it is given more time than answers have by default."""
    page = ask(client, index, query, options, **more)
    for more_time in ({}, {}, MORE_TIME, MORE_TIME, MORE_TIME):
        # A cross-encoder that could not read everything is what a deadline is for.
        late = [note for note in page.degraded if "cross-encoder" not in note.get("detail", "")]
        if options is None or not TOO_LATE & {note["reason"] for note in late}:
            break
        time.sleep(0.5)
        page = ask(client, index, query, options | more_time, **more)
    return page


def headline(out: Console, text: str) -> None:
    out.print()
    out.rule(Text(text, style="bold"), align="left")


def farewell(out: Console, settings: Settings) -> None:
    headline(out, "The stack is still running")
    out.print(f"OpenSearch  {settings.opensearch_url}", highlight=False)
    out.print(f"sidecar     {settings.sidecar} (gRPC, neuralrank.v1.Ranking)", highlight=False)
    out.print("\nTry: neuralrank search examples 手机 --user B --compare", highlight=False)
    out.print("     neuralrank similar examples head-sony-xm5", highlight=False)
    out.print("Stop it: make down (or neuralrank down)", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
