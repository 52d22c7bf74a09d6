"""What only a GPU can show: real engines of the default bundles. Skipped, with the reason, without.

`python bench/gpu.py` measures; this says whether it is right.
"""

from pathlib import Path

import numpy as np
import pytest

from neuralrank.backends.choice import Choice
from neuralrank.backends.tensorrt.driver import open_driver
from neuralrank.backends.tensorrt.library import load_library
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import Unsupported
from neuralrank.text.sample_pairs import read_pairs
from tests.conftest import default_models

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def _gpu() -> None:
    try:
        open_driver()
        load_library()
    except Unsupported as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("kind", ["encoder", "cross_encoder"])
def test_a_default_bundle_serves_on_the_gpu_what_it_serves_on_the_cpu(
    tmp_path: Path, kind: str
) -> None:
    names = {"encoder": "multilingual-e5-small", "cross_encoder": "neuralrank-small"}
    bundle = default_models().get(names[kind])
    reasons: list[str] = []
    choice = Choice("tensorrt", "fp16", tmp_path / "engines", on_fallback=reasons.append)
    texts = [pair.item for pair in read_pairs()]
    if kind == "encoder":
        gpu, cpu = Encoder.load(bundle, 0, choice), Encoder.load(bundle)
        assert (gpu.encode_passages(texts) * cpu.encode_passages(texts)).sum(1).min() > 0.99
        name = gpu.backend_name
    else:
        model, other = CrossEncoder.load(bundle, 0, choice), CrossEncoder.load(bundle)
        ours, theirs = model.score("laptop", texts), other.score("laptop", texts)
        assert np.abs(ours - theirs).max() < 0.5  # the CPU's is int8
        name = model.backend_name
    assert name.startswith("tensorrt-")
    assert name.endswith("-fp16")
    assert reasons == []
