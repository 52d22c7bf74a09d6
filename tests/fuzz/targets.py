"""What is fuzzed: each target takes bytes, and raises where the product does what it must not.

Anything may be refused. Nothing may end in another error than ours, in an answer that is not what
the contract says, or in no answer at all.
"""

import asyncio
import atexit
import json
import math
import shutil
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from neuralrank.bundles.bundle import MODEL, TOKENIZER, Bundle, ImageInputs, Manifest, write_bundle
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.pictures import FORMATS, read_picture
from neuralrank.errors import InvalidInput, NeuralrankError
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import PHOTOS
from sidecar.rpc.wire import read_encode, read_rank
from tests.unit.conftest import SMALL_PHOTO, tiny_bundle
from tests.unit.encoders.test_pictures import file, plain
from tests.unit.sidecar.parts import WEIGHTS, Bench, WordJudge
from tests.unit.sidecar.web import application

__all__ = ["TARGETS", "Target"]

# 499: the caller has gone. 405 and 422 can't happen: the method and the types are ours.
_STATUSES: Final = {200, 400, 404, 413, 429, 503, 504}
_MANIFEST: Final = "manifest.json"
# What takes a normal form long: marks in a row, such as are two, and what becomes eighteen letters.
_MARKED: Final = "a" + "\u0301\u0323" * 200 + "\u0344\u0f73\uff9e" * 40 + "\ufdfa"
# Of a text in NFKC that was read.
_MOST_MARKS: Final = 30


@dataclass(frozen=True)
class Target:
    """`run` raises on a finding. `seeds` are valid inputs to begin from."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


# ------------------------------------------------------------------------------------------ gRPC


def rank(data: bytes) -> None:
    """Bytes as a RankRequest: refused, or a query whose numbers can be ranked with."""
    try:
        query = read_rank(pb.RankRequest.FromString(data), WEIGHTS)
    except (DecodeError, InvalidInput):
        return
    candidates = query.candidates
    _check_marks([query.query, *(text or "" for text in candidates.texts)])
    assert len(set(candidates.ids)) == len(candidates.ids)
    assert not np.isinf(candidates.retrieval).any()
    assert not np.isinf(candidates.prices).any()
    lengths = np.linalg.norm(candidates.vectors.astype(np.float64), axis=1)
    assert np.allclose(lengths[candidates.has_vector], 1.0, atol=1e-3)
    weights = (query.weights.relevance, query.weights.affinity, query.weights.retrieval)
    assert all(math.isfinite(weight) and weight >= 0 for weight in weights)
    assert sum(weights) > 0


def encode(data: bytes) -> None:
    """Bytes as an EncodeRequest: refused, or inputs that can be encoded."""
    try:
        inputs = read_encode(pb.EncodeRequest.FromString(data))
    except (DecodeError, InvalidInput):
        return
    assert inputs
    _check_marks([entry.value for entry in inputs if entry.kind in ("query", "passage")])
    assert all(entry.value or entry.image or entry.profile is not None for entry in inputs)
    photos = [entry.kind in PHOTOS for entry in inputs]
    assert all(photos) or not any(photos)


def _check_marks(texts: list[str]) -> None:
    """No run of combining marks is so long that to sort it takes a time to speak of."""
    for text in texts:
        marks = "".join("m" if unicodedata.combining(sign) else " " for sign in text)
        assert max(map(len, marks.split()), default=0) <= _MOST_MARKS


def _rank_seeds() -> list[bytes]:
    made = pb.RankRequest(query="红 kettle", index="shop", request_id="r")
    made.user.profile.interactions.add(item_id="A", action="click", timestamp_ms=1)
    row = made.candidates.add(id="A", text="red kettle", retrieval_score=1.5, brand="b", price=2)
    row.vector = np.array([0.6, 0.8], "<f4").tobytes()
    row.attributes["colour"].values.append("red")
    row.features["x"] = 1.0
    made.candidates.add(id="B", version=3, in_stock=True, category=["a", "b"])
    made.options.filters.attributes.add(name="colour", values=["red"], exclude=True)
    made.options.filters.max_price = 10
    made.options.weights.relevance = 1
    made.options.min_score = 0.5
    bare = pb.RankRequest(candidates=[pb.Candidate(id="A")])
    marked = pb.RankRequest(query=_MARKED, candidates=[pb.Candidate(id="A", text=_MARKED * 50)])
    marked.candidates.add(id="B", text="red kettle").attributes["c"].values.append(_MARKED)
    marked.user.profile.interactions.add(item_id="A", action="click", query=_MARKED)
    marked.options.filters.attributes.add(name="c", values=[_MARKED])
    return [message.SerializeToString() for message in (made, bare, marked)]


def _encode_seeds() -> list[bytes]:
    made = pb.EncodeRequest(index="shop", encoder="words")
    made.inputs.add(query="kettle")
    made.inputs.add(passage="red kettle")
    made.inputs.add(item_id="A")
    made.inputs.add().user.id = "u"
    seen = pb.EncodeRequest(index="shop")
    seen.inputs.add(image=file(plain()))
    seen.inputs.add(photo_of="A")
    marked = pb.EncodeRequest(inputs=[pb.EncodeInput(passage=_MARKED * 50)])
    marked.inputs.add(query=_MARKED)
    return [message.SerializeToString() for message in (made, seen, marked)]


def photo(data: bytes) -> None:
    """Bytes as a photo: refused, or pixels that can be computed with."""
    try:
        picture = read_picture(data, ImageInputs.model_validate(SMALL_PHOTO))
    except InvalidInput:
        return
    assert picture.pixels.shape == (3, 16, 16)
    assert np.isfinite(picture.pixels).all()


def _photo_seeds() -> list[bytes]:
    image = plain((24, 20))
    image.paste((0, 90, 200), (3, 4, 17, 9))
    return [file(image, kind) for kind in FORMATS]


# ------------------------------------------------------------------------------------------ HTTP


class _Web:
    """The HTTP application on an event loop that is kept."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._app = application(Bench(judge=WordJudge()), http_max_body_bytes=2**20)

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and decoded JSON of the answer."""
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()
            raise AssertionError("never")

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
            "headers": [(b"content-type", b"application/json")],
        }  # fmt: skip
        self._loop.run_until_complete(self._app(scope, receive, send))
        text = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


_web: Callable[[], _Web] = cache(_Web)


def cohere(data: bytes) -> None:
    """Bytes as the body of /v1/rerank."""
    status, answer = _web().post("/v1/rerank", data)
    assert status in _STATUSES, (status, answer)
    if status != 200:
        assert answer["message"]
        return
    documents = len(json.loads(data)["documents"])
    _check_order([(row["index"], row["relevance_score"]) for row in answer["results"]], documents)


def tei(data: bytes) -> None:
    """Bytes as the body of /rerank."""
    status, answer = _web().post("/rerank", data)
    assert status in _STATUSES, (status, answer)
    if status != 200:
        assert answer["error"]
        assert answer["error_type"]
        return
    rows = [(row["index"], row["score"]) for row in answer]
    # Raw scores lie anywhere.
    scale = max(1.0, *(abs(score) for _, score in rows))
    texts = len(json.loads(data)["texts"])
    assert len(rows) == texts
    _check_order([(place, (1 + score / scale) / 2) for place, score in rows], texts)


def _check_order(rows: list[tuple[int, float]], documents: int) -> None:
    places = [place for place, _ in rows]
    scores = [score for _, score in rows]
    assert len(set(places)) == len(places)
    assert all(0 <= place < documents for place in places)
    assert all(0 <= score <= 1 for score in scores)
    assert scores == sorted(scores, reverse=True)


def _cohere_seeds() -> list[bytes]:
    bodies: list[dict[str, Any]] = [
        {"query": "red kettle", "documents": ["a red kettle", "blue", ""], "top_n": 2},
        {"model": "rerank-v3.5", "query": "红", "documents": [{"text": "红", "price": 3}],
         "return_documents": True, "max_tokens_per_doc": 16, "max_chunks_per_doc": 1},
        {"query": "q", "documents": [{"title": "t", "b": ["x"]}], "rank_fields": ["b", "title"]},
        {"query": "q", "documents": ["a"], "priority": 0, "truncation": True,
         "relevant_spans": {"mode": "disabled"}, "model": "judge"},
        {"query": _MARKED, "documents": [_MARKED * 5, {"text": _MARKED}, "a red kettle"]},
        {"query": "red", "documents": ["a red kettle", "blue"], "user": "u", "experiment":
         {"name": "x", "mode": "interleave", "arms": {"A": {}, "B": {"model": "words"}}}},
    ]  # fmt: skip
    return [json.dumps(body, ensure_ascii=bool(place % 2)).encode()
            for place, body in enumerate(bodies)]  # fmt: skip


def _tei_seeds() -> list[bytes]:
    bodies: list[dict[str, Any]] = [
        {"query": "red kettle", "texts": ["a red kettle", "blue"], "raw_scores": True},
        {"query": "红", "texts": ["红", ""], "return_text": True, "truncate": None,
         "truncation_direction": "Right"},
    ]  # fmt: skip
    return [json.dumps(body).encode() for body in bodies]


# --------------------------------------------------------------------------------------- bundles


class _Shelf:
    """A bundle on disk, of which one file at a time is replaced."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="neuralrank-fuzz-"))
        # Kept for the process; where libFuzzer ends that, `fuzz` removes it.
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.good = tiny_bundle(self.folder / "good", "cross_encoder").path

    def damaged(self, name: str, data: bytes) -> Path:
        """The bundle with `data` for the file of that name."""
        path = self.folder / "damaged"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.good, path)
        (path / name).write_bytes(data)
        return path


_shelf: Callable[[], _Shelf] = cache(_Shelf)


def manifest(data: bytes) -> None:
    """Bytes as manifest.json: refused, or a manifest of files that lie in the bundle."""
    path = _shelf().damaged(_MANIFEST, data)
    try:
        bundle = Bundle.open(path)
    except NeuralrankError:
        return
    assert isinstance(bundle.manifest, Manifest)
    for path_of in (bundle.model, bundle.tokenizer):
        assert path_of.resolve().parent == path.resolve(), path_of
    try:
        CrossEncoder.load(bundle, threads=1)
    except NeuralrankError:
        return


def tokenizer(data: bytes) -> None:
    """Bytes as tokenizer.json under a manifest that vouches for them."""
    _vouched(TOKENIZER, data)


def model(data: bytes) -> None:
    """Bytes as the ONNX graph under a manifest that vouches for them."""
    _vouched(MODEL, data)


def _vouched(name: str, data: bytes) -> None:
    path = _shelf().damaged(name, data)
    fields = json.loads((path / _MANIFEST).read_text())
    del fields["files"]
    try:
        bundle = write_bundle(path, fields)
        scorer = CrossEncoder.load(Bundle.open(bundle.path), threads=1)
        scores = scorer.score("a b", ["a", "b"])
    except NeuralrankError:
        return
    assert scores.shape == (2,)


def _manifest_seeds() -> list[bytes]:
    return [(_shelf().good / _MANIFEST).read_bytes()]


def _tokenizer_seeds() -> list[bytes]:
    return [(_shelf().good / TOKENIZER).read_bytes()]


def _model_seeds() -> list[bytes]:
    return [(_shelf().good / MODEL).read_bytes()]


TARGETS: Final = {
    target.name: target
    for target in (
        Target("grpc-rank", rank, _rank_seeds),
        Target("grpc-encode", encode, _encode_seeds),
        Target("photo", photo, _photo_seeds),
        Target("http-cohere", cohere, _cohere_seeds),
        Target("http-tei", tei, _tei_seeds),
        Target("bundle-manifest", manifest, _manifest_seeds),
        Target("bundle-tokenizer", tokenizer, _tokenizer_seeds),
        Target("bundle-model", model, _model_seeds),
    )
}
