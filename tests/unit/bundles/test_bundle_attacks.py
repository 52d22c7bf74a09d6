"""Bundles that were made to harm, or were damaged on the way: each is refused as InvalidBundle."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from neuralrank.bundles.bundle import MANIFEST, MODEL, TOKENIZER, Bundle, write_bundle
from neuralrank.bundles.onnx_references import external_locations
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidBundle
from tests.unit.conftest import tiny_bundle

# Inputs that one run of this file tries; `make fuzz` tries more.
MUTATIONS = 300


def rewrite(bundle: Bundle, change: Any) -> None:
    """Changes the manifest in place."""
    file = bundle.path / MANIFEST
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def reseal(path: Path) -> None:
    """Writes the checksums of what is there: damage that a checksum does not show."""
    file = path / MANIFEST
    manifest = json.loads(file.read_text())
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "C:x", ".hidden", "x\0y", MANIFEST],
)
def test_a_file_is_a_plain_name(encoder_bundle: Bundle, name: str) -> None:
    rewrite(encoder_bundle, lambda manifest: manifest["files"].update({name: "0" * 64}))
    with pytest.raises(InvalidBundle, match="outside the bundle"):
        Bundle.open(encoder_bundle.path)


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, MANIFEST])
def test_a_link_is_refused_whatever_it_leads_to(encoder_bundle: Bundle, name: str) -> None:
    file = encoder_bundle.path / name
    outside = encoder_bundle.path.parent / "outside"
    outside.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(outside)
    with pytest.raises(InvalidBundle, match="is a link"):
        Bundle.open(encoder_bundle.path)


@pytest.mark.parametrize("name", ["weights.pkl", "pytorch_model.PT"])
def test_a_pickle_is_refused(encoder_bundle: Bundle, name: str) -> None:
    (encoder_bundle.path / name).write_bytes(b"x")
    fields = encoder_bundle.manifest.model_dump(exclude={"files"})
    with pytest.raises(InvalidBundle, match="a pickle is never loaded"):
        write_bundle(encoder_bundle.path, fields)


@pytest.mark.parametrize("name", [MANIFEST, TOKENIZER])
def test_what_is_too_large_is_refused_unread(
    encoder_bundle: Bundle, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuralrank.bundles.bundle._MANIFEST_BYTES", 10)
    monkeypatch.setattr("neuralrank.bundles.bundle._TOKENIZER_BYTES", 10)
    if name == TOKENIZER:
        monkeypatch.setattr("neuralrank.bundles.bundle._MANIFEST_BYTES", 2**20)
    with pytest.raises(InvalidBundle, match=rf"{name} has \d+ bytes; allowed are 10"):
        Bundle.open(encoder_bundle.path)


@pytest.mark.parametrize("inside", ["graph", "constant", "subgraph", "sparse", "function"])
def test_external_data_must_lie_in_the_bundle(encoder_bundle: Bundle, inside: str) -> None:
    model = onnx.load(str(encoder_bundle.model))
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "far")
    tensor.raw_data = b""
    set_external_data(tensor, "../../secret", 0, 12)
    constant = helper.make_node("Constant", [], ["far"], value=numpy_helper.from_array(np.zeros(1)))
    constant.attribute[0].t.CopyFrom(tensor)
    if inside == "graph":
        model.graph.initializer.append(tensor)
    elif inside == "constant":
        model.graph.node.append(constant)
    elif inside == "subgraph":
        branch = helper.make_graph([constant], "b", [], [])
        model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch))
    elif inside == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    else:
        model.functions.add(name="f", domain="d").node.append(constant)
    # `onnx.save` would want to write the data, too.
    encoder_bundle.model.write_bytes(model.SerializeToString())
    reseal(encoder_bundle.path)
    with pytest.raises(InvalidBundle, match=r"keeps data in '\.\./\.\./secret'"):
        Bundle.open(encoder_bundle.path)


def test_external_data_in_the_bundle_is_allowed(encoder_bundle: Bundle) -> None:
    model = onnx.load(str(encoder_bundle.model))
    onnx.save(
        model, str(encoder_bundle.model), save_as_external_data=True, location="weights.data",
        size_threshold=512,
    )  # fmt: skip
    fields = encoder_bundle.manifest.model_dump(exclude={"files"})
    bundle = write_bundle(encoder_bundle.path, fields)
    assert external_locations(bundle.model) == {"weights.data"}
    assert Encoder.load(bundle, threads=1).encode_queries(["abc"]).shape == (1, 32)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"format": 2}, "format: got 2"),
        ({"kind": "oracle"}, "kind: got 'oracle'"),
        ({"golden_tolerance": -1}, "golden_tolerance"),
        ({"logit": {"low": 1, "high": 1}}, "low must be below high"),
        ({"created": "2026-01-01T00:00:00"}, "created"),
        ({"dimensions": 10**9}, "dimensions"),
        ({"golden": [{"texts": ["a", "b"], "values": [1]}]}, "golden has 2 texts"),
        ({"languages": ["x" * 99]}, "languages"),
    ],
)
def test_a_manifest_says_what_it_can_not_say(
    encoder_bundle: Bundle, damage: dict[str, Any], words: str
) -> None:
    rewrite(encoder_bundle, lambda manifest: manifest.update(damage))
    with pytest.raises(InvalidBundle) as caught:
        Bundle.open(encoder_bundle.path)
    assert words in str(caught.value)


def graph_of(kind: str, width: int, value: float) -> onnx.ModelProto:
    """A graph that gives the same number for every input, [batch, width]."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"], axis=0),
        helper.make_node("Concat", ["rows", "width"], ["out"], axis=0),
        helper.make_node("Expand", ["value", "out"], [kind]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "n"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info(kind, TensorProto.FLOAT, ["b", width])],
        [
            numpy_helper.from_array(np.array([0]), "zero"),
            numpy_helper.from_array(np.array([width]), "width"),
            numpy_helper.from_array(np.array([value], np.float32), "value"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def other_graph(bundle: Bundle, model: onnx.ModelProto) -> Bundle:
    onnx.save(model, str(bundle.model))
    return write_bundle(bundle.path, bundle.manifest.model_dump(exclude={"files"}))


@pytest.mark.parametrize(
    ("width", "value", "words"),
    [
        (1, float("nan"), "NaN or infinite"),
        (1, float("inf"), "NaN or infinite"),
        (3, 0.5, r"scores of shape \[\d, 3\]; its manifest says \[\d, 1\]"),
    ],
)
def test_a_cross_encoder_that_gives_no_scores(
    cross_encoder_bundle: Bundle, width: int, value: float, words: str
) -> None:
    bundle = other_graph(cross_encoder_bundle, graph_of("logits", width, value))
    with pytest.raises(
        InvalidBundle, match=words.replace("1 pairs", r"\d pairs").replace("[1,", "[\\d,")
    ):
        CrossEncoder.load(bundle, threads=1)


@pytest.mark.parametrize(
    ("width", "value", "words"),
    [
        (32, float("nan"), "NaN or infinity"),
        (31, 0.5, r"its manifest says \[\d, 32\]"),
        (1, 1.0, r"its manifest says \[\d, 32\]"),
        (32, 0.5, r"vectors of length 2\.8"),
    ],
)
def test_an_encoder_that_gives_no_vectors(
    encoder_bundle: Bundle, width: int, value: float, words: str
) -> None:
    bundle = other_graph(encoder_bundle, graph_of("sentence_embedding", width, value))
    with pytest.raises(InvalidBundle, match=words):
        Encoder.load(bundle, threads=1)


def test_a_model_that_scores_otherwise_than_it_did(tmp_path: Path) -> None:
    golden = [{"texts": ["abc", "abd"], "values": [99.0]}]
    bundle = tiny_bundle(tmp_path, "cross_encoder", golden=golden)
    with pytest.raises(InvalidBundle, match=r"was published with \[99\.\]"):
        CrossEncoder.load(bundle, threads=1)
    golden = [{"texts": ["abc"], "values": [0.0, 0.9]}]
    bundle = tiny_bundle(tmp_path, "encoder", golden=golden)
    with pytest.raises(InvalidBundle, match="computes something else"):
        Encoder.load(bundle, threads=1)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("originals")
    return {
        kind: {
            file.name: file.read_bytes() for file in tiny_bundle(folder / kind, kind).path.iterdir()
        }
        for kind in ("encoder", "cross_encoder")
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


_EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "zero", "double"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for what, where, payload in edits:
        place = int(where * len(data))
        if what == "flip":
            data = data[:place] + payload + data[place + len(payload) :]
        elif what == "cut":
            data = data[:place]
        elif what == "insert":
            data = data[:place] + payload + data[place:]
        elif what == "zero":
            data = data[:place] + bytes(len(payload)) + data[place + len(payload) :]
        else:
            data = data[:place] + data[place : place + 64] + data[place:]
    return data


@settings(
    max_examples=MUTATIONS,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(["encoder", "cross_encoder"]),
    name=st.sampled_from([MANIFEST, MODEL, TOKENIZER]),
    edits=_EDITS,
    sealed=st.booleans(),
)
def test_a_bundle_mutated_anyhow_is_refused_or_served_and_nothing_else_happens(
    originals: dict[str, dict[str, bytes]],
    work: Path,
    kind: str,
    name: str,
    edits: list[tuple[str, float, bytes]],
    sealed: bool,
) -> None:
    """`sealed`: the checksums are made to fit, so that the loader itself meets the damage."""
    for other, data in originals[kind].items():
        (work / other).write_bytes(data)
    before = originals[kind][name]
    after = edited(before, edits)
    (work / name).write_bytes(after)
    if sealed and name != MANIFEST:
        reseal(work)
    try:
        bundle = Bundle.open(work)
        load = Encoder.load if bundle.manifest.kind == "encoder" else CrossEncoder.load
        load(bundle, threads=1)
    except InvalidBundle:
        pass
    else:
        assert sealed or name == MANIFEST or after == before


@settings(max_examples=MUTATIONS)
@given(
    field=st.sampled_from(
        ["format", "name", "kind", "languages", "max_tokens", "dimensions", "normalized", "files",
         "golden", "golden_tolerance", "logit", "query_prefix", "metrics", "created", "surprise"]
    ),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
)  # fmt: skip
def test_a_manifest_with_any_value_in_any_field_is_refused_or_opened(
    originals: dict[str, dict[str, bytes]], work: Path, field: str, value: Any
) -> None:
    for other, data in originals["encoder"].items():
        (work / other).write_bytes(data)
    manifest = json.loads(originals["encoder"][MANIFEST])
    manifest[field] = value
    (work / MANIFEST).write_text(json.dumps(manifest))
    with suppress(InvalidBundle):
        bundle = Bundle.open(work)
        if bundle.manifest.kind == "encoder":
            Encoder.load(bundle, threads=1)
