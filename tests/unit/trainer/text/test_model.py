"""The torch model is the model that serves, whatever it was trained by."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from neuralrank.encoders.cross_encoder import CrossEncoder  # noqa: E402
from neuralrank.encoders.encoder import Encoder  # noqa: E402
from neuralrank.errors import InvalidInput, InvalidSettings  # noqa: E402
from neuralrank.models.bert import BertConfig, write_bert  # noqa: E402
from neuralrank.models.bert_matches import MATCHES  # noqa: E402
from neuralrank.models.bert_reader import read_bert  # noqa: E402
from tests.unit.conftest import tiny_bundle, tiny_weights  # noqa: E402
from tests.unit.trainer.text.conftest import PAIRS, tiny_checkpoint  # noqa: E402
from trainer.loop import Task, TrainingOptions, train  # noqa: E402
from trainer.text import (  # noqa: E402
    Reader,
    TextModel,
    adapt,
    encode,
    export,
    merged,
    score_pairs,
    sizes_of,
    weights_of,
)

METHODS = ["full", "lora", "adalora", "prefix", "adapters"]


@pytest.mark.parametrize("types", [1, 2])
def test_a_cross_encoder_scores_as_its_bundle_does(tmp_path: Path, types: int) -> None:
    checkpoint = tiny_checkpoint(types=types)
    served = CrossEncoder.load(tiny_bundle(tmp_path, "cross_encoder", types=types))
    model = TextModel(checkpoint, "score").eval()
    with torch.no_grad():
        found = score_pairs(model, Reader.of(checkpoint), PAIRS)
    # The sidecar cleans the query; a Reader does it itself.
    wanted = [served.score(q.replace("ｌａｐｔｏｐ", "laptop"), [t])[0] for q, t in PAIRS]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_an_encoder_encodes_as_its_bundle_does(tmp_path: Path, head: Any) -> None:
    from neuralrank.bundles.bundle import MODEL, write_bundle
    from tests.unit.conftest import CONFIG

    bundle = tiny_bundle(tmp_path, "encoder", query_prefix="q ", passage_prefix="p ")
    onnx.save(write_bert(tiny_weights(), CONFIG, head, "fp32"), str(bundle.path / MODEL))
    fields = bundle.manifest.model_dump(exclude={"files"})
    served = Encoder.load(write_bundle(tmp_path, fields))
    texts = [text for _, text in PAIRS]
    checkpoint = tiny_checkpoint(head)
    model = TextModel(checkpoint, head).eval()
    with torch.no_grad():
        found = encode(model, Reader.of(checkpoint), texts, "p ")
    np.testing.assert_allclose(found, served.encode_passages(texts), atol=1e-5)


def test_positions_of_other_families_begin_later() -> None:
    checkpoint = tiny_checkpoint()
    name = "embeddings.position_embeddings.weight"
    moved = np.concatenate([np.full((2, 32), 9.0, np.float32), checkpoint.weights[name]])
    shifted = replace(
        checkpoint,
        weights={**checkpoint.weights, name: moved},
        config=BertConfig(layers=2, heads=4, first_position=2),
    )
    with torch.no_grad():
        results = [
            score_pairs(TextModel(c, "score").eval(), Reader.of(c), PAIRS)
            for c in (checkpoint, shifted)
        ]
    np.testing.assert_array_equal(*results)


def test_an_encoder_becomes_a_cross_encoder_with_a_new_head() -> None:
    weights = {k: w for k, w in tiny_weights().items() if not k.startswith(("pooler", "classif"))}
    checkpoint = replace(tiny_checkpoint("mean"), weights=weights)
    models = [TextModel(checkpoint, "score", seed=seed).eval() for seed in (1, 1, 2)]
    with torch.no_grad():
        one, same, other = (score_pairs(m, Reader.of(checkpoint), PAIRS) for m in models)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.isfinite(one).all()


def test_a_checkpoint_that_is_not_whole_is_refused() -> None:
    weights = tiny_weights()
    del weights["encoder.layer.1.output.dense.bias"]
    with pytest.raises(InvalidInput, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        TextModel(replace(tiny_checkpoint(), weights=weights), "score")


def test_matches_are_marked_as_in_the_graph(tmp_path: Path) -> None:
    plain = tiny_checkpoint()
    table = np.random.default_rng(3).normal(size=(2, 32)).astype(np.float32)
    checkpoint = replace(plain, weights={**plain.weights, MATCHES: table})
    model = TextModel(checkpoint, "score").eval()
    with torch.no_grad():
        found = score_pairs(model, Reader.of(checkpoint), PAIRS)
        unmarked = score_pairs(TextModel(plain, "score").eval(), Reader.of(plain), PAIRS)
    fields = {"name": "marked", "max_tokens": 64}
    bundle, agreement = export(model, plain.tokenizer, tmp_path, fields, "fp32", PAIRS[:5])
    assert agreement.difference < 1e-4
    assert np.abs(found - unmarked).max() > 0.01
    np.testing.assert_array_equal(read_bert(bundle.model)[0][MATCHES], table)
    # An encoder has no other text to match.
    vectors = encode(TextModel(checkpoint, "mean").eval(), Reader.of(checkpoint), ["desk"])
    assert vectors.shape == (1, 32)


def test_weights_that_would_be_left_out_are_refused() -> None:
    checkpoint = tiny_checkpoint()
    name = "embeddings.segment_embeddings.weight"
    weights = {**checkpoint.weights, name: np.ones((2, 32), np.float32)}
    with pytest.raises(InvalidInput, match=r"no place for.*segment_embeddings"):
        TextModel(replace(checkpoint, weights=weights), "score")


def fit(method: Any, out: Path, steps: int = 12, **options: Any) -> tuple[TextModel, Any, Any]:
    """Teaches six pairs their scores."""
    checkpoint = tiny_checkpoint()
    torch.seed()  # whatever was drawn before
    adapted = adapt(TextModel(checkpoint, "score"), method, steps)
    reader = Reader.of(checkpoint)
    halves = [reader.halves(pair) for pair in PAIRS]
    targets = torch.tensor([2.0, 1.0, -2.0, -1.0, 0.0, 1.5])

    def loss(model: Any, batch: Any) -> Any:
        inputs, wanted = batch
        return (model(**inputs) - wanted).square().mean() + adapted.penalty()

    task = Task(
        identity={"method": method},
        model=adapted.model,
        examples=len(PAIRS),
        batch=lambda rows, _: (
            reader.tensors([reader.pair(*halves[row]) for row in rows]),
            targets[rows],
        ),
        loss=loss,
        evaluate=lambda model: {
            "fit": -float(np.square(score_pairs(model, reader, PAIRS) - targets.numpy()).mean())
        },
        metric="fit",
        extra=adapted.extra,
    )
    chosen = TrainingOptions(
        out=out,
        steps=steps,
        batch_size=6,
        learning_rate=0.01,
        every_steps=4,
        method=method,
        track="none",
        **options,
    )
    outcome = train(task, chosen)
    return merged(adapted.model), outcome, adapted


@pytest.mark.parametrize("method", METHODS)
def test_each_method_learns_and_its_graph_computes_the_same(tmp_path: Path, method: str) -> None:
    before = TextModel(tiny_checkpoint(), "score")
    trained, outcome, adapted = fit(method, tmp_path / "run")
    assert outcome.best["fit"] > outcome.before["fit"] * 0.8
    if method != "full":
        changed = sum(w.numel() for w in adapted.model.parameters() if w.requires_grad)
        frozen = {n: w for n, w in adapted.model.named_parameters() if not w.requires_grad}
        assert changed < sum(w.numel() for w in frozen.values())
        words = dict(trained.named_parameters())["bert.embeddings.word_embeddings.weight"]
        assert torch.equal(words, before.bert.embeddings.word_embeddings.weight)
    reader = Reader.of(tiny_checkpoint())
    with torch.no_grad():
        wanted = score_pairs(adapted.model.eval(), reader, PAIRS)
        np.testing.assert_allclose(score_pairs(trained.eval(), reader, PAIRS), wanted, atol=1e-4)
    graph = write_bert(weights_of(trained), sizes_of(trained), "score", "fp32")
    bundle = tiny_bundle(tmp_path / "bundle", "cross_encoder")
    onnx.save(graph, str(bundle.model))
    from neuralrank.bundles.bundle import write_bundle

    served = CrossEncoder.load(
        write_bundle(bundle.path, bundle.manifest.model_dump(exclude={"files"}))
    )
    scores = [served.score(q.replace("ｌａｐｔｏｐ", "laptop"), [t])[0] for q, t in PAIRS]
    np.testing.assert_allclose(scores, wanted, atol=1e-4)


def test_ranks_are_moved_by_what_steps_before_have_seen(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"adalora with 1 .*allowed are 2 or more.*lora\."):
        adapt(TextModel(tiny_checkpoint(), "score"), "adalora", 1)
    adapt(TextModel(tiny_checkpoint(), "score"), "lora", 1)
    _, outcome, _ = fit("adalora", tmp_path, steps=2)
    assert outcome.steps == 2


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix", "adapters"])
def test_a_method_goes_on_where_it_stopped(tmp_path: Path, method: str) -> None:
    from trainer.loop.checkpoints import Checkpoints

    whole, expected, _ = fit(method, tmp_path / "whole")
    fit(method, tmp_path / "run")
    # As if it had been killed after step 8.
    folder = Checkpoints(tmp_path / "run", 2)
    for file in sorted(folder.path(12).iterdir()):
        file.unlink()
    folder.path(12).rmdir()
    resumed, outcome, _ = fit(method, tmp_path / "run")
    assert outcome.history == expected.history
    for name, weight in whole.named_parameters():
        assert torch.equal(weight, dict(resumed.named_parameters())[name]), name
