"""A two-layer model that is pretrained on the examples: what falls, what is kept, what is read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, BertForPreTraining

from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidInput
from neuralrank.models import Checkpoint, checkpoint
from tests.unit.room import room_for
from tests.unit.trainer.interrupts import interrupt_at
from tests.unit.trainer.pretrain.test_tokenizer import TITLES
from trainer.loop import Method, Outcome, TrainingOptions, train
from trainer.pretrain.collating import masks_for
from trainer.pretrain.model import Pretraining, from_scratch, with_mask
from trainer.pretrain.run import run_pretraining
from trainer.pretrain.task import pretraining
from trainer.pretrain.texts import Corpus, Pair, split_off
from trainer.pretrain.tokenizer import train_tokenizer
from trainer.text.methods import Adapted, adapt
from trainer.text.model import TextModel, weights_of
from trainer.text.sources import read_source

PAIRS = [Pair(title, title[:12]) for title in TITLES[::8]]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return split_off(PAIRS, seed=0)


@pytest.fixture(scope="module")
def tiny(corpus: Corpus) -> Checkpoint:
    tokenizer = train_tokenizer(corpus.texts(), 400)
    return from_scratch(tokenizer, layers=2, hidden=32, heads=2, seed=0)


def training(out: Path) -> TrainingOptions:
    return TrainingOptions(
        out=out,
        steps=24,
        batch_size=16,
        learning_rate=1e-2,
        max_length=32,
        track="none",
        patience=0,
        every_steps=12,
    )


@pytest.fixture(scope="module")
def run(
    tiny: Checkpoint, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Pretraining, Outcome]:
    options = training(tmp_path_factory.mktemp("run"))
    model = Pretraining(tiny, seed=0)
    return model, train(pretraining(Adapted(model), tiny, corpus, options), options)


def test_the_loss_falls_from_that_of_a_guess(run: tuple[Pretraining, Outcome]) -> None:
    model, outcome = run
    guess = np.log(model.inner.config.vocab_size) + np.log(2)
    assert outcome.before["dev_loss"] == pytest.approx(guess, rel=0.1)
    assert outcome.best["dev_loss"] < outcome.before["dev_loss"] - 0.5
    assert set(outcome.best) == {"dev_loss", "masked_accuracy", "next_accuracy"}


def test_interrupted_it_goes_on_as_if_it_had_not_been(
    run: tuple[Pretraining, Outcome],
    tiny: Checkpoint,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, expected = run
    options = training(tmp_path)
    interrupt_at(monkeypatch, 14)
    with pytest.raises(KeyboardInterrupt, match="step 16 of 24"):
        train(pretraining(Adapted(Pretraining(tiny, seed=0)), tiny, corpus, options), options)
    model = Pretraining(tiny, seed=0)
    outcome = train(pretraining(Adapted(model), tiny, corpus, options), options)
    assert outcome.history == expected.history
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_what_is_saved_is_where_other_trainings_start(
    run: tuple[Pretraining, Outcome], tmp_path: Path
) -> None:
    model, _ = run
    model.save(tmp_path)
    found = checkpoint(str(tmp_path))
    body, _ = TextModel(found, "mean"), TextModel(found, "score")
    for name, weight in weights_of(body).items():
        mine = dict(model.inner.bert.named_parameters())[name]
        np.testing.assert_array_equal(weight, mine.detach().numpy())
    assert found.tokenizer == model.checkpoint.tokenizer
    # And so does whoever uses transformers alone.
    theirs = BertForPreTraining.from_pretrained(tmp_path)
    for name, weight in model.inner.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name]), name
    assert AutoModel.from_pretrained(tmp_path).config.num_hidden_layers == 2
    mine = Tokenizer.from_buffer(model.checkpoint.tokenizer)
    for text in ("phone case", "婴儿奶粉"):
        assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == mine.encode(text).ids


def test_without_room_no_half_model_is_left(
    run: tuple[Pretraining, Outcome], tmp_path: Path
) -> None:
    model, _ = run
    with room_for(20_000), pytest.raises(OSError, match=str(tmp_path / "model")):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    model.save(tmp_path / "model")
    checkpoint(str(tmp_path / "model"))


def test_heads_go_on_where_an_earlier_pretraining_ended(
    run: tuple[Pretraining, Outcome], tmp_path: Path
) -> None:
    model, _ = run
    model.save(tmp_path)
    again = Pretraining(checkpoint(str(tmp_path)), seed=9)
    for name, weight in model.inner.state_dict().items():
        assert torch.equal(weight, again.inner.state_dict()[name]), name


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_small_weights_are_added_to_those_that_it_goes_on_from(
    tiny: Checkpoint, corpus: Corpus, tmp_path: Path, method: Method
) -> None:
    options = replace(training(tmp_path), method=method)
    done = run_pretraining(tiny, corpus, options, new=False)
    assert done is not None
    assert done.outcome.best["dev_loss"] < done.outcome.before["dev_loss"]
    found = checkpoint(str(done.folder)).weights
    changed = {n for n, w in found.items() if not np.array_equal(w, tiny.weights.get(n))}
    assert "embeddings.word_embeddings.weight" not in changed
    assert "encoder.layer.1.output.dense.weight" in changed
    assert not any("lora" in name for name in found)
    # What was saved is what was measured.
    saved = Pretraining(checkpoint(str(done.folder)), seed=0)
    again = pretraining(Adapted(saved), tiny, corpus, options)
    again.model.eval()
    with torch.no_grad():
        measured = again.evaluate(again.model)
    assert measured["dev_loss"] == pytest.approx(done.outcome.best["dev_loss"], abs=1e-4)


def test_what_a_hugging_face_folder_has_no_place_for_is_said(tiny: Checkpoint) -> None:
    for method, words in (("prefix", "a prefix"), ("adapters", "bottlenecks")):
        weights = weights_of(adapt(TextModel(tiny, "score"), method, 1).model)
        with pytest.raises(InvalidInput, match=f"from scratch has {words}; .* hub:ORG/NAME"):
            Pretraining(replace(tiny, weights=weights), seed=0)
    narrow = dict(tiny.weights)
    for part in ("query", "key", "value"):
        for name in ("weight", "bias"):
            key = f"encoder.layer.1.attention.self.{part}.{name}"
            narrow[key] = narrow[key][:16]
    output = "encoder.layer.1.attention.output.dense.weight"
    narrow[output] = narrow[output][:, :16]
    with pytest.raises(InvalidInput, match="has layers that something was pruned from"):
        Pretraining(replace(tiny, weights=narrow), seed=0)


def test_it_goes_on_from_the_same_weights_only(
    tiny: Checkpoint, corpus: Corpus, tmp_path: Path
) -> None:
    options = replace(training(tmp_path), steps=1, method="lora")
    run_pretraining(tiny, corpus, options, new=False)
    other = {name: weight + 0.1 for name, weight in tiny.weights.items()}
    with pytest.raises(InvalidInput, match="holds a run with source_weights"):
        run_pretraining(replace(tiny, weights=other), corpus, options, new=False)


def test_trials_choose_the_lowest_loss(tiny: Checkpoint, corpus: Corpus, tmp_path: Path) -> None:
    options = replace(training(tmp_path), steps=4, every_steps=0)
    done = run_pretraining(tiny, corpus, options, new=True, trials=2)
    assert done is not None
    assert done.search is not None
    assert "learning_rate" in done.search.chosen
    losses = [
        json.loads(file.read_text())["best"]["dev_loss"]
        for file in (tmp_path / "trials").glob("*/result.json")
    ]
    assert len(losses) == 2
    assert done.outcome.best["dev_loss"] == min(losses) == done.search.best.value
    assert done.folder == tmp_path / "model"
    # The run's folder is a source for other trainings.
    assert read_source(str(tmp_path), Registry(str(tmp_path / "registry"))).config.layers == 2


def test_only_hidden_tokens_get_logits(tiny: Checkpoint) -> None:
    model = Pretraining(tiny, seed=0).eval()
    ids = torch.randint(5, 300, (2, 6))
    guessed = torch.zeros(2, 6, dtype=torch.bool)
    guessed[0, 2] = guessed[1, 4] = True
    with torch.no_grad():
        tokens, following = model(ids, torch.ones_like(ids), torch.zeros_like(ids), guessed)
        whole = model.inner(input_ids=ids)
    assert following.shape == (2, 2)
    torch.testing.assert_close(tokens, whole.prediction_logits[guessed])
    torch.testing.assert_close(following, whole.seq_relationship_logits)


def test_a_vocabulary_without_a_mask_gets_one(tiny: Checkpoint) -> None:
    assert with_mask(tiny) is tiny
    text = Tokenizer.from_buffer(tiny.tokenizer).to_str().replace("[MASK]", "[GONE]")
    lacking = replace(tiny, tokenizer=text.encode())
    with pytest.raises(InvalidInput, match=r"no \[MASK\]"):
        masks_for(Tokenizer.from_buffer(lacking.tokenizer))
    found = with_mask(lacking)
    before, after = (c.weights["embeddings.word_embeddings.weight"] for c in (lacking, found))
    assert len(after) == len(before) + 1
    np.testing.assert_allclose(after[-1], before.mean(0), rtol=1e-5)
    tokenizer = Tokenizer.from_buffer(found.tokenizer)
    assert masks_for(tokenizer).mask == len(before)
    Pretraining(found, seed=0)


def test_a_width_that_heads_can_not_share_is_refused(tiny: Checkpoint) -> None:
    tokenizer = Tokenizer.from_buffer(tiny.tokenizer)
    with pytest.raises(InvalidInput, match="--hidden is 30 with --heads 4"):
        from_scratch(tokenizer, layers=1, hidden=30, heads=4, seed=0)
