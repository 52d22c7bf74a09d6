"""The bundles that are served: loaded from the registry, warmed, swapped in while requests run.

Readers take `Models.serving`, one immutable object, and keep it for the length of a request; a
swap replaces the reference and touches nothing that a request holds. A bundle that can't be
verified or loaded is refused with its reason, and what served before goes on serving.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from neuralrank.backends import Choice
from neuralrank.bundle import Bundle, parse_ref
from neuralrank.cross_encoder import CrossEncoder
from neuralrank.encoder import Encoder
from neuralrank.errors import NeuralrankError, NotFound
from sidecar.cost import Cost, units
from sidecar.serving import Loaded, Serving, State, Status

__all__ = ["BundleSource", "Models", "load_bundle"]

_log = logging.getLogger(__name__)

# Pairs of about the length of real ones: their time is the first estimate of a pair's cost.
_WARM_QUERY: Final = "wireless noise cancelling headphones 降噪耳机"
_WARM_TEXT: Final = (
    "Over-ear wireless headphones with active noise cancelling, 30 hours of battery, foldable. "
    "头戴式无线降噪耳机，续航三十小时，可折叠。"
)
_WARM_PAIRS: Final = 4


class BundleSource(Protocol):
    """Where bundles are published; `neuralrank.registry.Registry` is one."""

    def refs(self) -> list[str]: ...
    def get(self, ref: str) -> Bundle: ...


def load_bundle(
    source: BundleSource, ref: str, threads: int, choice: Choice | None = None
) -> Loaded:
    """Reads, verifies, loads and warms a bundle. Takes seconds: not for the event loop.

    Raises:
        NeuralrankError: it can't be served; the message says why.
    """
    bundle = source.get(ref)
    manifest = bundle.manifest
    encoder: Encoder | None = None
    cross_encoder: CrossEncoder | None = None
    cost = Cost()
    backend = ""
    if manifest.kind == "encoder":
        encoder = Encoder.load(bundle, threads, choice)
        encoder.encode_queries([_WARM_QUERY])
        backend = encoder.backend_name
    elif manifest.kind == "cross_encoder":
        cross_encoder = CrossEncoder.load(bundle, threads, choice)
        texts = [_WARM_TEXT] * _WARM_PAIRS
        # The first run allocates; the second is what a run costs.
        for _ in range(2):
            start = time.perf_counter()
            cross_encoder.score(_WARM_QUERY, texts)
            seconds = time.perf_counter() - start
        cost.observe(units(_WARM_QUERY, texts), seconds)
        backend = cross_encoder.backend_name
    else:
        raise NotFound(f"This version serves no bundles of kind {manifest.kind}; {ref} is left.")
    status = Status(
        manifest.name,
        bundle.hash,
        manifest.kind,
        manifest.languages,
        State.SERVING,
        backend=backend,
        serving_since_ms=int(time.time() * 1_000),
    )
    return Loaded(status, manifest.created, encoder, cross_encoder, cost)


class Models:
    """Follows the registry. `refresh` is one look at it, `follow` goes on until cancelled."""

    def __init__(
        self,
        source: BundleSource,
        *,
        threads: int,
        default_encoder: str = "",
        default_cross_encoder: str = "",
        choice: Choice | None = None,
    ) -> None:
        """
        Args:
            choice: of the backend; by default ONNX Runtime.
        """
        self._choice = choice
        self._source = source
        self._threads = threads
        self._refused: dict[str, Status] = {}
        self._loading: dict[str, Status] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="models")
        self.serving = Serving({}, default_encoder, default_cross_encoder)

    async def refresh(self) -> None:
        """Loads what is new in the registry and swaps it in; each bundle fails on its own.

        What left the registry goes on serving until the sidecar restarts: a registry that is
        unreachable for a moment must not take the models away.
        """
        loop = asyncio.get_running_loop()
        try:
            refs = await loop.run_in_executor(self._pool, self._source.refs)
        except (NeuralrankError, OSError) as error:
            _log.warning("the model registry can't be read: %s", error)
            return
        # A refused bundle that was replaced or removed is forgotten.
        self._refused = {ref: row for ref, row in self._refused.items() if ref in refs}
        for ref in refs:
            if ref in self.serving.loaded or ref in self._refused:
                continue
            name, digits = parse_ref(ref)
            self._loading[ref] = Status(name, digits, "", (), State.LOADING)
            try:
                loaded = await loop.run_in_executor(
                    self._pool, load_bundle, self._source, ref, self._threads, self._choice
                )
            except Exception as error:  # whatever a file does, the others go on serving
                reason = str(error) or type(error).__name__
                self._refused[ref] = Status(name, digits, "", (), State.REFUSED, reason)
                _log.error("bundle refused", extra={"bundle": ref, "reason": reason})
            else:
                self._swap(ref, loaded)
                _log.info("bundle serving", extra={"bundle": ref, "kind": loaded.status.kind})
            finally:
                self._loading.pop(ref, None)

    async def follow(self, seconds: float) -> None:
        """Refreshes for ever, so that a published bundle serves without a restart."""
        while True:
            await asyncio.sleep(seconds)
            await self.refresh()

    @property
    def statuses(self) -> list[Status]:
        """Every bundle that was tried, by name; with the defaults marked."""
        serving = self.serving
        defaults = set()
        for kind, name in (
            ("encoder", serving.default_encoder),
            ("cross_encoder", serving.default_cross_encoder),
        ):
            try:
                defaults.add(serving.pick(name, kind).status.ref)
            except NotFound:
                continue
        rows = [*serving.statuses, *self._refused.values(), *self._loading.values()]
        return sorted(
            (
                Status(
                    row.name, row.hash, row.kind, row.languages, row.state, row.reason,
                    row.backend, row.serving_since_ms, row.ref in defaults,
                )
                for row in rows
            ),
            key=lambda row: row.ref,
        )  # fmt: skip

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _swap(self, ref: str, loaded: Loaded) -> None:
        old = self.serving
        self.serving = Serving(
            {**old.loaded, ref: loaded}, old.default_encoder, old.default_cross_encoder
        )
