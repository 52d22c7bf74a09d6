"""`neuralrank rank`: candidates in, ranked out, straight over gRPC, as a service would."""

import struct
import sys
from base64 import b64encode
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from google.protobuf import json_format
from rich.table import Table

from neuralrank.cli.json_output import print_json
from neuralrank.client import Client
from neuralrank.console import plain_console
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.settings import load_settings
from neuralrank.v1 import ranking_pb2 as pb

__all__ = ["rank"]

# Of a uint32.
_MOST = 2**32 - 1
_EXAMPLE = '{"query": "电脑", "user": "A", "candidates": [{"id": "1", "text": "MacBook"}]}'


def rank(
    file: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="JSON of a RankRequest; - reads stdin.")
    ] = "-",
    query: Annotated[str | None, typer.Option(help="In place of the file's query.")] = None,
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="In place of the file's user: an id.")
    ] = None,
    index: Annotated[
        str | None, typer.Option(help="In place of the file's index: fills in what is left out.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=0, max=_MOST, help="How many come back; 0: all.")
    ] = None,
    deadline_ms: Annotated[
        int | None,
        typer.Option(min=0, max=_MOST, help="How long it may take; 0: as the sidecar has it, 50."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Each hit's parts and why.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the RankResponse.")] = False,
) -> None:
    """Ranks candidates for a user, over gRPC.

    The request is the JSON of a RankRequest (protos/neuralrank/v1/ranking.proto), where "user" may
    be just the id, a candidate just its text, an attribute just a value, and a vector a list of
    numbers:

        {"query": "电脑", "user": "A", "index": "examples", "candidates": [{"id": "1"}]}

    Example: neuralrank rank request.json --user A --explain
    """
    request = read_request(_read(file))
    for name, value in (("query", query), ("user", user), ("index", index)):
        if value is not None and not is_text(value):
            raise InvalidInput(f"--{name} is not valid UTF-8: {value!r}. Give it in UTF-8.")
    if query is not None:
        request.query = query
    if user is not None:
        request.user.id = user
    if index is not None:
        request.index = index
    if top_k is not None:
        request.options.top_k = top_k
    if deadline_ms is not None:
        request.options.deadline_ms = deadline_ms
    if explain:
        request.options.explain = True
    with Client.of(load_settings()) as client:
        response = client.rank(request)
    if as_json:
        answer = json_format.MessageToDict(
            response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        print_json(answer)
        return
    _show(request, response)


def read_request(text: bytes) -> pb.RankRequest:
    """The request of a JSON text, in protobuf's mapping or the lenient shape.

    Raises:
        InvalidInput: it is not JSON, or not a request.
    """
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The request is not JSON: {error}. Give e.g. {_EXAMPLE}") from error
    if not isinstance(row, dict):
        raise InvalidInput(f"The request is a JSON {type(row).__name__}. Give e.g. {_EXAMPLE}")
    row = dict(row)
    if isinstance(row.get("user"), str):
        row["user"] = {"id": row["user"]}
    if isinstance(row.get("candidates"), list):
        row["candidates"] = [_candidate(n, entry) for n, entry in enumerate(row["candidates"])]
    try:
        return json_format.ParseDict(row, pb.RankRequest())
    except json_format.ParseError as error:
        words = str(error).rstrip(".")
        raise InvalidInput(
            f"The request is no RankRequest: {words}. Fields are those of ranking.proto. Give "
            f"e.g. {_EXAMPLE}"
        ) from error


def is_text(value: str) -> bool:
    """Whether it has an UTF-8; an argument of a shell may hold any bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _candidate(number: int, entry: Any) -> Any:
    if isinstance(entry, str):
        return {"id": str(number), "text": entry}
    if not isinstance(entry, dict):
        return entry
    entry = dict(entry)
    if isinstance(entry.get("id"), int):
        entry["id"] = str(entry["id"])
    if isinstance(entry.get("category"), str):
        entry["category"] = [entry["category"]]
    if isinstance(entry.get("vector"), list):
        entry["vector"] = _packed(entry["vector"], entry.get("id"))
    if isinstance(entry.get("attributes"), dict):
        entry["attributes"] = {
            name: value
            if isinstance(value, dict)
            else {"values": [str(one) for one in (value if isinstance(value, list) else [value])]}
            for name, value in entry["attributes"].items()
        }
    return entry


def _packed(vector: list[Any], name: Any) -> str:
    """Numbers as protobuf's JSON has bytes: base64, of little-endian float32."""
    try:
        return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (struct.error, OverflowError) as error:
        raise InvalidInput(
            f"The vector of candidate {name!r} can't be used: {error}. Allowed are numbers, or "
            "base64 of float32, little-endian."
        ) from error


def _read(file: str) -> bytes:
    if file == "-" and sys.stdin.isatty():
        raise InvalidInput(
            f"No request was given. Name a JSON file, or pipe one in, e.g. {_EXAMPLE}"
        )
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {file!r}. Name a JSON file, or - for stdin.") from error
    except OSError as error:
        raise InvalidInput(f"{file!r} can't be read: {error.strerror}.") from error


def _show(request: pb.RankRequest, response: pb.RankResponse) -> None:
    texts = {entry.id: entry.text for entry in request.candidates}
    console = plain_console()
    table = Table(box=None, pad_edge=False)
    for name in ("#", "was", "score", "id", "text"):
        table.add_column(name, justify="right" if name in ("#", "was", "score") else "left")
    if request.options.explain:
        for name in ("relevance", "affinity", "retrieval"):
            table.add_column(name, justify="right")
        table.add_column("why")
    for place, hit in enumerate(response.results, start=1):
        text = texts.get(hit.id, "").split("\n", 1)[0]
        row = [str(place), str(hit.retrieval_position + 1), f"{hit.score:.3f}", hit.id]
        row.append(text[:60])
        if request.options.explain:
            why = hit.explanation
            row += [
                f"{getattr(why, name):.2f}" if why.HasField(name) else "–"
                for name in ("relevance", "affinity", "retrieval")
            ]
            because = f" [because of {', '.join(why.because_of)}]" if why.because_of else ""
            row.append(why.summary + because)
        table.add_row(*row)
    console.print(table)
    for drop in response.dropped:
        console.print(f"dropped {drop.id}: {drop.detail}")
    if response.total_dropped and not response.dropped:
        console.print(f"{response.total_dropped} dropped; --explain says why")
    for note in response.degraded:
        reason = pb.DegradedReason.Name(note.reason).removeprefix("DEGRADED_REASON_").lower()
        print(f"note: {reason}: {note.detail}", file=sys.stderr)
