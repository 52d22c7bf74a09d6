"""What is measured on a GPU: TensorRT in each precision, and what others use. Each is made when it
is its turn, so that one that fails, or fills the memory, does not take the others with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from neuralrank.backends.tensorrt.builder import build_engine
from neuralrank.backends.tensorrt.driver import Cuda
from neuralrank.backends.tensorrt.fp8 import to_fp8
from neuralrank.backends.tensorrt.library import Library
from neuralrank.backends.tensorrt.precision import to_half
from neuralrank.backends.tensorrt.profiles import lengths_up_to, profiles_for
from neuralrank.backends.tensorrt.session import Session
from neuralrank.bundles.bundle import Bundle
from neuralrank.errors import Unsupported

__all__ = ["Contender", "bert_weights", "contenders", "product"]

Feeds = Mapping[str, NDArray[Any]]
_LONGEST: Final = 128


def _nothing() -> None:
    """Nothing is held."""


@dataclass(frozen=True)
class Contender:
    """What runs [pairs, length] to logits [pairs, 1], from and to the CPU's memory."""

    name: str
    inputs: frozenset[str]
    run: Callable[[Feeds], NDArray[Any]]
    versions: Mapping[str, str] = field(default_factory=dict)
    close: Callable[[], None] = _nothing


def product(library: Library) -> str:
    """What its rows begin with. An RTX build is never called a TensorRT one."""
    return "TensorRT" if library.name == "tensorrt" else library.name


def contenders(
    bundle: Bundle,
    exact: onnx.ModelProto,
    samples: Sequence[Feeds],
    library: Library,
    cuda: Cuda,
) -> dict[str, Callable[[], Contender]]:
    """By name, what makes each; making it may raise anything.

    Args:
        exact: the bundle's float32 graph.
        samples: inputs of real texts, for the ranges of FP8.
    """

    def tensorrt(name: str, convert: Callable[[], onnx.ModelProto]) -> Callable[[], Contender]:
        def make() -> Contender:
            longest = min(_LONGEST, bundle.manifest.max_tokens)
            profiles = profiles_for(lengths_up_to(longest))
            built = build_engine(library, convert(), profiles)
            session = Session(library, cuda, built.engine, profiles)
            return Contender(name, session.inputs, session.run, close=session.close)

        return make

    converted: dict[str, Callable[[], onnx.ModelProto]] = {
        "fp16": lambda: to_half(exact, "fp16"),
        "fp16, softmax too": lambda: to_half(exact, "fp16", exact_softmax=False),
        "bf16": lambda: to_half(exact, "bf16"),
        "fp8": lambda: to_fp8(exact, samples),
        "fp32": lambda: exact,
    }
    made = {f"{product(library)} {what}": convert for what, convert in converted.items()}
    return {
        **{name: tensorrt(name, convert) for name, convert in made.items()},
        "ONNX Runtime CUDA": lambda: _onnxruntime(to_half(exact, "fp16")),
        "torch eager": lambda: _torch(exact, compiled=False),
        "torch.compile": lambda: _torch(exact, compiled=True),
    }


def _onnxruntime(model: onnx.ModelProto) -> Contender:
    import onnxruntime

    provider = "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise Unsupported("this onnxruntime has no CUDA provider: install onnxruntime-gpu")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=[provider])
    if session.get_providers()[0] != provider:
        raise Unsupported("ONNX Runtime's CUDA provider can't start; its log says why")
    return Contender(
        "ONNX Runtime CUDA",
        frozenset(given.name for given in session.get_inputs()),
        lambda feeds: session.run(None, dict(feeds))[0],
        {"onnxruntime": onnxruntime.__version__},
    )


def bert_weights(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """The arrays of a graph of `write_bert`, by the node that uses them: `layer0.qkv.product` is
    the [in, out] of that product, `layer0.norm.weight` and `.bias` the pair of a normalisation."""
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    found: dict[str, NDArray[np.float32]] = {}
    for node in model.graph.node:
        given = [name for name in node.input if name in arrays]
        if node.op_type in ("MatMul", "Gather") and given:
            found[node.name] = arrays[given[0]]
        elif node.op_type == "Slice" and node.input[0] in arrays:
            found[node.name] = arrays[node.input[0]]
        elif node.op_type == "Add" and given:
            found[f"{node.name}.bias"] = arrays[given[0]]
        elif node.op_type == "LayerNormalization":
            found[f"{node.name}.weight"], found[f"{node.name}.bias"] = (arrays[n] for n in given)
    return found


def _torch(model: onnx.ModelProto, *, compiled: bool) -> Contender:
    import torch

    if not torch.cuda.is_available():
        raise Unsupported("torch sees no GPU")
    score = torch_bert(torch, model, "cuda", torch.float16)
    if compiled:
        score = torch.compile(score, dynamic=False)
    names = [given.name for given in model.graph.input]

    def run(feeds: Feeds) -> NDArray[Any]:
        with torch.inference_mode():
            given = [torch.from_numpy(feeds[name]).pin_memory() for name in names]
            logits = score(*(tensor.to("cuda", non_blocking=True) for tensor in given))
            result: NDArray[Any] = logits.float().cpu().numpy()
            return result

    return Contender(
        "torch.compile" if compiled else "torch eager",
        frozenset(names),
        run,
        {"torch": torch.__version__},
        torch.cuda.empty_cache,
    )


def torch_bert(torch: Any, model: onnx.ModelProto, device: str, dtype: Any) -> Any:
    """The same cross-encoder in torch, as a function of ids, mask and types [pairs, length]; with
    torch's own fused attention."""
    functional = torch.nn.functional
    weights = {
        name: torch.tensor(array, dtype=dtype, device=device)
        for name, array in bert_weights(model).items()
    }
    heads = next(
        int(numpy_helper.to_array(item)[3])
        for item in model.graph.initializer
        if item.name in ("heads.3", "heads.2", "heads")
    )
    layers = sum(name.endswith(".output.weight") for name in weights)

    def linear(name: str, x: Any) -> Any:
        return x @ weights[f"{name}.product"] + weights[f"{name}.bias"]

    def norm(name: str, x: Any) -> Any:
        size = (x.shape[-1],)
        return functional.layer_norm(
            x, size, weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12
        )

    def cut(joined: Any, parts: int) -> Any:
        """[pairs, heads, length, size] each."""
        return joined.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def score(ids: Any, mask: Any, types: Any = None) -> Any:
        x = weights["words"][ids] + weights["positions"][: ids.shape[1]]
        if types is not None:
            x = x + weights["types"][types]
        x = norm("embeddings", x)
        seen = (mask > 0)[:, None, None, :]
        for layer in range(layers):
            name = f"layer{layer}"
            if f"{name}.kv.product" in weights:  # the first token is all that is asked for
                k, v = cut(linear(f"{name}.kv", x), 2)
                x = x[:, :1]
                (q,) = cut(linear(f"{name}.query", x), 1)
            else:
                q, k, v = cut(linear(f"{name}.qkv", x), 3)
            # The scale is in the query's weights.
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=1.0)
            merged = mixed.transpose(1, 2).flatten(2)
            x = norm(f"{name}.norm", x + linear(f"{name}.attended", merged))
            inner = functional.gelu(linear(f"{name}.inner", x))
            x = norm(f"{name}.output", x + linear(f"{name}.outer", inner))
        return linear("logits", torch.tanh(linear("pooler.dense", x[:, 0])))

    return score
