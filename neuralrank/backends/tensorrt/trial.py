"""Builds an engine for a bundle and tries it, in a process of its own.

TensorRT aborts or crashes the process where it fails badly, and a GPU that has failed stays failed
until the process ends. So what serves never builds: a child builds, runs real texts, compares with
float32 on the CPU, and leaves the engine in the cache with the numbers, or the numbers alone where
it is refused. What is in the cache has run on this GPU.

    python -m neuralrank.backends.tensorrt.trial BUNDLE PRECISION ENGINES BYTES

Each line on standard output is a JSON object: {"phase", "done"} while it builds, {"error"} at last
where it failed. It ends when its standard input does: who started it is gone then, and with it the
limit of its time.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from neuralrank.backends.tensorrt.agreement import TOLERANCE, Agreement, agreement
from neuralrank.backends.tensorrt.builder import build_engine
from neuralrank.backends.tensorrt.cache import CachedEngine, EngineCache, EngineKey
from neuralrank.backends.tensorrt.driver import Cuda, open_driver
from neuralrank.backends.tensorrt.fp8 import to_fp8
from neuralrank.backends.tensorrt.graph import read_float_graph
from neuralrank.backends.tensorrt.library import Library, load_library
from neuralrank.backends.tensorrt.precision import CONVERTER, to_half
from neuralrank.backends.tensorrt.profiles import Profile, described, lengths_up_to, profiles_for
from neuralrank.backends.tensorrt.session import Session
from neuralrank.bundles.bundle import MODEL, Bundle
from neuralrank.errors import InvalidBundle, NeuralrankError, Unsupported, exit_code
from neuralrank.onnx_file import fits_one_file
from neuralrank.text.sample_pairs import read_pairs
from neuralrank.text.tokens import load_tokenizer, padded, tokens_of

__all__ = ["bundle_profiles", "engine_key", "on_cpu", "real_feeds", "try_engine"]

Feeds = dict[str, NDArray[Any]]

# Texts of each run on the CPU, and queries of the pairs that a cross-encoder reads.
_ROWS: Final = 32
_QUERIES: Final = 8
# Of each profile: rows that run by themselves, and about the tokens that are read at most.
_SINGLE: Final = 8
_TOKENS: Final = 2**18
_FP8_SINCE: Final = (8, 9)


def bundle_profiles(bundle: Bundle) -> tuple[Profile, ...]:
    """The profiles for inputs of a bundle's length."""
    return profiles_for(lengths_up_to(bundle.manifest.max_tokens))


def engine_key(bundle: Bundle, precision: str, library: Library, cuda: Cuda) -> EngineKey:
    return EngineKey(
        model=bundle.manifest.files[MODEL],
        library=library.name,
        version=library.version,
        compute_capability=cuda.device.compute_capability,
        device=cuda.device.name,
        precision=precision,
        profiles=described(bundle_profiles(bundle)),
        converter=CONVERTER,
    )


def try_engine(
    bundle: Bundle,
    precision: str,
    library: Library,
    cuda: Cuda,
    cache: EngineCache,
    progress: Callable[[str, float], None],
) -> CachedEngine:
    """Builds, tries and caches an engine. Its facts say whether it is accepted, and the numbers.

    Raises:
        InvalidBundle: the model can't be converted, or TensorRT does not understand it.
        Unsupported: this GPU has no such precision, or building or running failed.
    """
    if precision == "fp8" and cuda.device.capability < _FP8_SINCE:
        raise Unsupported(
            f"{cuda.device.name} has compute capability {cuda.device.compute_capability}; FP8 "
            "needs 8.9 or newer. Use fp16 or bf16."
        )
    key = engine_key(bundle, precision, library, cuda)
    profiles = bundle_profiles(bundle)
    exact = read_float_graph(bundle.model)
    if not fits_one_file(exact):
        raise InvalidBundle(
            f"The float32 model of {bundle.ref} is larger than 2 GiB, the most that ONNX's own "
            "format holds in one piece, and a GPU's engine is made from that. ONNX Runtime serves "
            "it on the CPU; for a GPU take a smaller model."
        )
    samples = real_feeds(bundle, exact)
    progress(f"converting to {precision}", 0.0)
    if precision == "fp8":
        model = to_fp8(exact, samples)
    elif precision in ("fp16", "bf16"):
        model = to_half(exact, "fp16" if precision == "fp16" else "bf16")
    else:
        model = exact
    built = build_engine(library, model, profiles, timings=cache.timings(key), progress=progress)
    cache.put_timings(key, built.timings)
    progress("comparing with float32", 0.0)
    session = Session(library, cuda, built.engine, profiles)
    try:
        found = _compared(session, profiles, exact, samples)
    finally:
        session.close()
    length, worst = max(found.items(), key=lambda item: _badness(item[1]))
    accepted = worst.within(TOLERANCE)
    words = f"{worst}, in the profile of {length} tokens"
    facts = {"accepted": accepted, "agreement": worst.as_dict(), "words": words}
    engine = built.engine if accepted else b""
    cache.put(key, engine, facts)
    progress("comparing with float32", 1.0)
    return CachedEngine(engine, facts)


def real_feeds(bundle: Bundle, model: onnx.ModelProto) -> list[Feeds]:
    """Inputs of real texts in the bundle's languages, [rows, length]."""
    pairs = read_pairs(bundle.manifest.languages)
    texts = [pair.item for pair in pairs] + [pair.other_item for pair in pairs]
    tokenizer = load_tokenizer(bundle)
    if bundle.manifest.kind == "cross_encoder":
        asked = [(pair.query, text) for pair in pairs[:_QUERIES] for text in texts]
        encodings = tokenizer.encode_batch_fast(asked)
    else:
        encodings = tokenizer.encode_batch_fast(texts)
    names = frozenset(given.name for given in model.graph.input)
    read = [tokens_of(encoding) for encoding in encodings]
    return [padded(read[start : start + _ROWS], names) for start in range(0, len(read), _ROWS)]


def on_cpu(model: onnx.ModelProto, samples: Sequence[Feeds]) -> NDArray[np.float32]:
    """What ONNX Runtime's CPU says of the samples, float32 [all rows, width]."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return _joined([session.run(None, feeds)[0] for feeds in samples])


def _compared(
    session: Session, profiles: Sequence[Profile], model: onnx.ModelProto, samples: Sequence[Feeds]
) -> dict[int, Agreement]:
    """How an engine agrees with float32, by the length of its profiles: each has kernels of its
    own. The samples are padded to the length, or cut."""
    widest = max(feeds["input_ids"].shape[1] for feeds in samples)
    exact = {
        width: on_cpu(model, [_cut(feeds, width) for feeds in samples])
        for width in sorted({min(profile.length, widest) for profile in profiles})
    }
    found = {}
    for profile in profiles:
        parts = [_of_length(feeds, profile.length) for feeds in samples]
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        # What is the same when it is cut would be an order of its own noise.
        _, first = np.unique(rows["input_ids"], axis=0, return_index=True)
        chosen = np.sort(first)[:: 1 + first.size * profile.length // _TOKENS]
        given = {name: values[chosen] for name, values in rows.items()}
        expected = exact[min(profile.length, widest)][chosen]
        found[profile.length] = agreement(expected, _on_gpu(session, profile, given))
    return found


def _cut(feeds: Feeds, length: int) -> Feeds:
    return {name: values[:, :length] for name, values in feeds.items()}


def _of_length(feeds: Feeds, length: int) -> Feeds:
    return {
        name: np.pad(values, ((0, 0), (0, length - values.shape[1])))
        for name, values in _cut(feeds, length).items()
    }


def _on_gpu(session: Session, profile: Profile, rows: Feeds) -> NDArray[np.float32]:
    """Outputs of rows of a profile's length: of the first ones one at a time, of the others as many
    as the profile is best at."""
    count = len(rows["input_ids"])
    single = min(_SINGLE, count)
    starts = [*range(single), *range(single, count, profile.best), count]
    return _joined(
        [
            session.run({name: values[start:end] for name, values in rows.items()})
            for start, end in pairwise(starts)
        ]
    )


def _badness(found: Agreement) -> tuple[bool, float]:
    return not found.within(TOLERANCE), found.difference


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts).astype(np.float32)


def _say(what: Mapping[str, object]) -> None:
    print(json.dumps(what), flush=True)


def _end_with_input() -> None:
    """Ends this process when its standard input ends."""
    # Not by the stream: a thread that waits in it would keep Python from ending.
    while os.read(0, 64):
        pass
    os._exit(1)


def main(arguments: Sequence[str]) -> int:
    """The child. Every error is said on standard output; only a crash is silent."""
    folder, precision, engines, size = arguments
    threading.Thread(target=_end_with_input, daemon=True).start()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    try:
        cuda = open_driver()
        try_engine(
            Bundle.open(Path(folder)),
            precision,
            load_library(),
            cuda,
            EngineCache(Path(engines), int(size)),
            lambda phase, done: _say({"phase": phase, "done": round(done, 3)}),
        )
    except NeuralrankError as error:
        _say({"error": str(error)})
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
