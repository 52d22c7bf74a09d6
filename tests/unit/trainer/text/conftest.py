"""A two-layer model with random weights, as everywhere in the unit tests."""

from typing import Any

import pytest

pytest.importorskip("torch")

from neuralrank.models import Checkpoint
from tests.unit.conftest import CONFIG, tiny_tokenizer, tiny_weights

PAIRS = [
    ("laptop", "apple 电脑 13"),
    ("手机", "华为 手机 2000"),
    ("laptop", "kettle"),
    ("苹果", "a" * 80),
    ("b" * 50, "c" * 50),
    ("ｌａｐｔｏｐ", "apple"),
]


def tiny_checkpoint(head: Any = "score", types: int = 2, **fields: Any) -> Checkpoint:
    return Checkpoint(
        tiny_weights(types=types),
        CONFIG,
        head,
        tiny_tokenizer().to_str().encode(),
        {"name": "tiny", "max_tokens": 64, **fields},
    )
