"""Scores pairs with one library, in that library's own environment: run by `bench.sidecar.peers`.

    python peer.py KIND FOLDER PAIRS THREADS MAX_TOKENS

Reads names of sets from standard input, one a line, and answers each with one JSON line: seconds
and scores. PAIRS is a JSON file: {set: [[query, [text, ...]], ...]}. Imports nothing of neuralrank
except to measure neuralrank itself.
"""

import asyncio
import contextlib
import json
import os
import sys
import time


class SentenceTransformers:
    def __init__(self, folder, threads, max_tokens):
        import torch
        from sentence_transformers import CrossEncoder

        torch.set_num_threads(threads)
        self.model = CrossEncoder(folder, max_length=max_tokens, device="cpu")

    def score(self, query, texts):
        pairs = [(query, text) for text in texts]
        return self.model.predict(pairs, batch_size=32, show_progress_bar=False).tolist()


class FastEmbed:
    def __init__(self, folder, threads, max_tokens):  # noqa: ARG002
        from fastembed.common.model_description import ModelSource
        from fastembed.rerank.cross_encoder import TextCrossEncoder

        TextCrossEncoder.add_custom_model(
            model="bench/peer", model_file="model.onnx", sources=ModelSource(hf="bench/peer")
        )
        self.model = TextCrossEncoder(
            "bench/peer", specific_model_path=folder, threads=threads, cuda=False
        )

    def score(self, query, texts):
        # Its default is 64; 16 was the faster one on this kind of machine.
        return [float(score) for score in self.model.rerank(query, texts, batch_size=16)]


class FlashRank:
    def __init__(self, folder, threads, max_tokens):  # noqa: ARG002
        from flashrank import Ranker, RerankRequest

        self.request = RerankRequest
        self.model = Ranker("ms-marco-MiniLM-L-12-v2", cache_dir=folder, max_length=max_tokens)

    def score(self, query, texts):
        passages = [{"id": i, "text": text} for i, text in enumerate(texts)]
        ranked = self.model.rerank(self.request(query=query, passages=passages))
        scores = [0.0] * len(texts)
        for row in ranked:
            scores[row["id"]] = float(row["score"])
        return scores


class Infinity:
    def __init__(self, folder, threads, max_tokens):  # noqa: ARG002
        import torch
        from infinity_emb import AsyncEmbeddingEngine, EngineArgs

        torch.set_num_threads(threads)
        self.loop = asyncio.new_event_loop()
        self.engine = AsyncEmbeddingEngine.from_args(
            EngineArgs(
                model_name_or_path=folder, engine="torch", device="cpu", dtype="float32",
                batch_size=32, bettertransformer=False, model_warmup=False, compile=False,
            )
        )  # fmt: skip
        self.loop.run_until_complete(self.engine.astart())

    def score(self, query, texts):
        ranked, _ = self.loop.run_until_complete(
            self.engine.rerank(query=query, docs=list(texts), raw_scores=True)
        )
        scores = [0.0] * len(texts)
        for row in ranked:
            scores[row.index] = float(row.relevance_score)
        return scores


class OnnxRuntimePlain:
    """What a straightforward service does: all pairs in one batch, padded to the longest."""

    def __init__(self, folder, threads, max_tokens):
        import numpy
        import onnxruntime
        from tokenizers import Tokenizer

        self.numpy = numpy
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {entry.name for entry in self.session.get_inputs()}
        self.tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.enable_padding()

    def score(self, query, texts):
        encodings = self.tokenizer.encode_batch([(query, text) for text in texts])
        feeds = {
            "input_ids": [e.ids for e in encodings],
            "attention_mask": [e.attention_mask for e in encodings],
            "token_type_ids": [e.type_ids for e in encodings],
        }
        feeds = {
            name: self.numpy.array(rows, self.numpy.int64)
            for name, rows in feeds.items()
            if name in self.inputs
        }
        return self.session.run(None, feeds)[0][:, 0].tolist()


class Neuralrank:
    """As the sidecar does it: through its queue and its workers, without what its caches save."""

    def __init__(self, folder, threads, max_tokens):  # noqa: ARG002
        from pathlib import Path

        from neuralrank.bundles.bundle import Bundle
        from neuralrank.encoders.cross_encoder import CrossEncoder
        from sidecar.cores import share
        from sidecar.deadline import Deadline
        from sidecar.inference.cost import Cost
        from sidecar.inference.inference import Inference
        from sidecar.settings import SidecarSettings
        from sidecar.telemetry.metrics import Metrics

        settings = SidecarSettings()
        cores = share(threads, settings.workers)
        self.model = CrossEncoder.load(Bundle.open(Path(folder)), cores.pair_threads)
        self.cost = Cost()
        self.deadline = Deadline.never()
        self.inference = Inference(
            Metrics(),
            workers=cores.workers,
            batch_tokens=settings.batch_tokens,
            queue_tokens=settings.queue_tokens,
            query_cache_bytes=0,
            token_cache_bytes=0,
            score_cache_bytes=0,
        )
        self.loop = asyncio.new_event_loop()

    def score(self, query, texts):
        return self.loop.run_until_complete(self._score(query, texts)).tolist()

    async def _score(self, query, texts):
        pairs = await self.inference.pairs(self.model, query, texts, self.deadline)
        scores, errors = await self.inference.score(
            self.model, self.cost, query, texts, pairs, self.deadline
        )
        assert not errors, errors
        return scores


KINDS = {
    "sentence-transformers": SentenceTransformers,
    "fastembed": FastEmbed,
    "flashrank": FlashRank,
    "infinity-emb": Infinity,
    "plain": OnnxRuntimePlain,
    "neuralrank": Neuralrank,
}


def main():
    kind, folder, pairs, threads, max_tokens = sys.argv[1:]
    with open(pairs, encoding="utf-8") as stream:
        sets = json.load(stream)
    # What libraries print must not end up between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.redirect_stdout(sys.stderr):
        peer = KINDS[kind](folder, int(threads), int(max_tokens))
        peer.score("a query", ["a text", "another one"])
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            begin = time.perf_counter()
            scores = [peer.score(query, texts) for query, texts in sets[line.strip()]]
            seconds = time.perf_counter() - begin
            print(json.dumps({"seconds": seconds, "scores": scores}), file=answers, flush=True)


if __name__ == "__main__":
    main()
