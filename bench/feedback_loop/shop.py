"""The running system: a stack of its own, the commands that people type, and pages.

Nothing here is simulated. The stack has its own home and registry, so that a demo that runs, and
what users did in it, stay as they are.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import onnx
from opensearchpy import OpenSearch

from bench.candidates import DATA
from neuralrank.bundles.bundle import MODEL, TOKENIZER
from neuralrank.bundles.registry import Registry
from neuralrank.models import Checkpoint, measured
from neuralrank.models.bert import write_bert
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.page import NO_PIPELINE, ask
from neuralrank.settings import load_settings
from opensearch_config import lexical_query, pipelines

__all__ = ["INDEX", "PAGE", "SET", "Refused", "Shop"]

SET: Final = "esci_en"
INDEX: Final = "feedback_loop"
# Items on a page.
PAGE: Final = 10
# The pipeline for an index without vectors: the order hangs on the cross-encoder and on the shop's
# own query. Only its timeout is another one: every candidate is to be read, however busy the
# machine.
_PIPELINE: Final = "feedback_loop"
_OF: Final = "neural_rank_only"
_PATIENCE_MS: Final = 20_000
_RANKING: Final[Mapping[str, Any]] = {
    "window": 50,
    "max_reranked": 50,
    "deadline_ms": 5_000,
    "fusion": "rrf",
    "weights": {"relevance": 1.0, "retrieval": 0.5, "affinity": 0.0, "cross_encoder": 1.0},
}
_SIDECAR: Final = {
    "NEURALRANK_SIDECAR_REGISTRY_POLL_SECONDS": "1",
    # A busy machine makes a bundle look slow that is as large as the one before it.
    "NEURALRANK_SIDECAR_MAX_SLOWDOWN": "20",
}
# No encoder is served, as the index has no vectors: the cross-encoder is all there is.
_EXPECTED: Final = {"model_unavailable"}
_SWAP_SECONDS: Final = 120.0
_ATTEMPTS: Final = 5
_ROOT: Final = Path(__file__).parents[2]
# InvalidInput's: what `models promote` ends with where the gate says no.
_REFUSED: Final = 3


class Refused(Exception):
    """A command said no; what it printed."""


class Shop:
    """One home folder with its stack."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.registry = Registry(str(home / "models"))

    def add_model(self, checkpoint: Checkpoint, name: str) -> None:
        """Publishes a cross-encoder under a name of its own, if it is not there."""
        if self.registry.published(name):
            return
        folder = self.home / "first" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        graph = write_bert(checkpoint.weights, checkpoint.config, "score", "int8")
        onnx.save(graph, str(folder / MODEL))
        (folder / TOKENIZER).write_bytes(checkpoint.tokenizer)
        fields = {
            "name": name,
            "kind": "cross_encoder",
            "languages": ("en",),
            "max_tokens": checkpoint.fields.get("max_tokens") or 512,
            "precision": "int8",
        }
        self.registry.publish(measured(folder, fields))

    @contextmanager
    def open(self) -> Iterator[None]:
        """The stack runs meanwhile, with the catalogue indexed."""
        downloads = load_settings().home / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        if not (self.home / "downloads").exists():
            (self.home / "downloads").symlink_to(downloads.resolve())
        ports = ("--opensearch-port", "0", "--sidecar-port", "0")
        self.command("up", "--home", self.home, "--heap", "512m", *ports)
        try:
            with closing(self._client()) as self._opensearch:
                self._prepare()
                yield
        finally:
            self.command("down", "--home", self.home)

    def wipe(self) -> None:
        """Ends the stack and deletes all of it."""
        if self.home.is_dir():
            self.command("down", "--home", self.home, "--wipe")
            shutil.rmtree(self.home)

    def command(self, *arguments: object) -> str:
        """Runs `neuralrank …` as a person would; what it printed on standard output.

        Raises:
            Refused: it ended with the code of input that is not accepted.
            SystemExit: it failed otherwise.
        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NEURALRANK_")}
        environment |= {**_SIDECAR, "NEURALRANK_HOME": str(self.home), "PYTHONPATH": str(_ROOT)}
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from neuralrank.cli import main; main()"),
                *map(str, arguments),
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        said = f"neuralrank {' '.join(map(str, arguments))}\n{done.stderr[-3_000:]}"
        if done.returncode == _REFUSED:
            raise Refused(said)
        if done.returncode:
            sys.exit(said)
        return done.stdout

    def page(self, text: str, bundle: str, size: int = PAGE) -> list[str]:
        """What a user sees for a query.

        Args:
            bundle: a name: ranked by what serves under it; "": in the shop's own order.

        Raises:
            RuntimeError: the page was not ranked, or not as well as it can be.
        """
        return [hit.id for hit in self._ranked(text, bundle, size).hits]

    def wait_for(self, name: str, text: str) -> None:
        """Until the sidecar ranks with what the registry says serves under a name."""
        wanted = self.registry.resolve(name)
        until = time.monotonic() + _SWAP_SECONDS
        while wanted not in self._ranked(text, name, 1).report.get("bundles", ()):
            if time.monotonic() > until:
                raise RuntimeError(f"{wanted} does not serve; see {self.home}/logs/sidecar.log")
            time.sleep(0.5)

    def _ranked(self, text: str, bundle: str, size: int) -> Any:
        query = lexical_query(text)
        if not bundle:
            return ask(self._opensearch, INDEX, query, size=size, pipeline=NO_PIPELINE)
        options = {**_RANKING, "bundle": bundle}
        for _ in range(_ATTEMPTS):
            page = ask(self._opensearch, INDEX, query, options, size=size, pipeline=_PIPELINE)
            # What was read in time is known the next time.
            short = {str(note["reason"]) for note in page.degraded} - _EXPECTED
            if not page.hits or (page.reranked and page.report.get("bundles") and not short):
                return page
        raise RuntimeError(f"The page for {text!r} is not ranked whole: {page.report}")

    def _client(self) -> OpenSearch:
        return connect(load_settings(home=self.home), timeout=60.0)

    def _prepare(self) -> None:
        body = json.loads(json.dumps(pipelines()[_OF]))
        body["response_processors"][0]["neural_rank"]["timeout_ms"] = _PATIENCE_MS
        self._opensearch.search_pipeline.put(id=_PIPELINE, body=body)
        if not self._opensearch.indices.exists(index=INDEX):
            catalogue = DATA / SET / "catalogue.jsonl.gz"
            rejects = ("--rejects", self.home / "rejects.jsonl")
            self.command("index", catalogue, "--index", INDEX, "--no-vectors", *rejects)
