import weakref

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig as HuggingFaceConfig
from transformers import BertModel

from neuralrank.errors import InvalidInput
from neuralrank.models.bert import BertConfig, write_bert
from trainer.compress.importance import measure_importance
from trainer.compress.pruning import Kept, choose, cut, kept_layers, silence

LAYERS, HEADS, HIDDEN, NEURONS = 2, 4, 32, 48
SIZE = HIDDEN // HEADS
IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 8, 11, 3]])


@pytest.fixture
def bert() -> BertModel:
    torch.manual_seed(1)
    return BertModel(
        HuggingFaceConfig(
            vocab_size=20, hidden_size=HIDDEN, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, intermediate_size=NEURONS, max_position_embeddings=16,
            attn_implementation="eager", hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, initializer_range=0.2,
        ),
        add_pooling_layer=False,
    ).eval()  # fmt: skip


def kept() -> Kept:
    heads = (np.array([0, 2]), np.array([1]))
    neurons = (np.arange(0, NEURONS, 2), np.array([3, 4, 40]))
    return Kept(heads, neurons)


def squares(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids).last_hidden_state[:, 0].sin().mean()


def test_what_is_cut_out_computes_what_was_silenced(bert: BertModel) -> None:
    silence(bert.encoder.layer, kept(), SIZE)
    with torch.no_grad():
        tokens = bert(input_ids=IDS).last_hidden_state.mean(1)
    expected = torch.nn.functional.normalize(tokens).numpy()
    weights = {name: value.detach().numpy() for name, value in bert.state_dict().items()}
    smaller = cut(weights, kept(), SIZE)
    assert smaller["encoder.layer.0.attention.self.key.weight"].shape == (2 * SIZE, HIDDEN)
    assert smaller["encoder.layer.1.output.dense.weight"].shape == (HIDDEN, 3)
    graph = write_bert(smaller, BertConfig(LAYERS, HEADS), "mean", "fp32")
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    ids = IDS.numpy()
    (found,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_silence_outlasts_training(bert: BertModel) -> None:
    silence(bert.encoder.layer, kept(), SIZE)
    before = bert.encoder.layer[1].intermediate.dense.weight.detach().clone()
    optimizer = torch.optim.AdamW(bert.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        squares(bert, IDS).backward()
        optimizer.step()
    layer = bert.encoder.layer[1]
    value = layer.attention.self.value.weight.reshape(HEADS, SIZE, HIDDEN)
    assert (value[[0, 2, 3]] == 0).all()
    assert (value[1] != 0).any()
    after = layer.intermediate.dense.weight
    assert (after[0] == 0).all()
    assert (after[3] != before[3]).any()


def test_importance_is_the_first_order_change_of_the_loss(bert: BertModel) -> None:
    found = measure_importance(bert, bert.encoder.layer, [IDS], squares, size=SIZE)
    assert [len(row) for row in found.heads] == [HEADS] * LAYERS
    # Scaling what a head gives by 1 - ε changes the loss by -ε · Σ activation × gradient.
    step, layer = 1e-3, bert.encoder.layer[1]
    for head in range(HEADS):
        rows = slice(head * SIZE, (head + 1) * SIZE)
        weight = layer.attention.output.dense.weight
        with torch.no_grad():
            whole = squares(bert, IDS)
            original = weight[:, rows].clone()
            weight[:, rows] *= 1 - step
            change = float(abs(squares(bert, IDS) - whole)) / step
            weight[:, rows] = original
        assert found.heads[1][head] == pytest.approx(change, rel=0.05, abs=2e-4)


def test_nothing_of_a_batch_outlives_it(bert: BertModel) -> None:
    seen: list[weakref.ref[torch.Tensor]] = []
    layer = bert.encoder.layer[0].output.dense
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(weakref.ref(inputs[0])))
    measure_importance(bert, bert.encoder.layer, [IDS] * 3, squares, size=SIZE)
    assert len(seen) == 3
    assert [reference() for reference in seen] == [None] * 3


def test_a_layer_that_passes_its_input_on_changes_nothing(bert: BertModel) -> None:
    with torch.no_grad():
        for name, weight in bert.encoder.layer[1].named_parameters():
            if "output.dense" in name:
                weight.zero_()
    changes = measure_importance(bert, bert.encoder.layer, [IDS], squares, size=SIZE).changes
    assert changes[1] == pytest.approx(0.0, abs=1e-5)
    assert kept_layers(changes, 1) == [0]


@given(st.integers(0, 2**31), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_the_most_important_stay_and_one_of_each_layer(
    seed: int, heads_share: float, neurons_share: float
) -> None:
    random = np.random.default_rng(seed)
    heads = [random.random(HEADS) for _ in range(3)]
    neurons = [random.random(NEURONS) for _ in range(3)]
    chosen = choose(heads, neurons, heads_share=heads_share, neurons_share=neurons_share)
    for importance, places, share in (
        (heads, chosen.heads, heads_share), (neurons, chosen.neurons, neurons_share)
    ):  # fmt: skip
        assert all(len(each) for each in places)
        count = sum(map(len, places))
        assert count == max(round(share * sum(map(len, importance))), len(importance))
        away = [
            row[place] for row, stays in zip(importance, places, strict=True)
            for place in set(range(len(row))) - set(stays.tolist())
        ]  # fmt: skip
        # Beside the best of each layer, none stays that is less important than one that goes.
        stay = [
            row[place] for row, stays in zip(importance, places, strict=True)
            for place in stays if place != np.argmax(row)
        ]  # fmt: skip
        assert not away or not stay or min(stay) >= max(away)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"heads that stays is 0\.0; allowed is above 0 to 1"):
        choose([np.ones(2)], [np.ones(2)], heads_share=0.0, neurons_share=1.0)
    with pytest.raises(InvalidInput, match="--layers is 3; the model has 2"):
        kept_layers([0.1, 0.2], 3)
