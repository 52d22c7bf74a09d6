"""Whether a sidecar can rank by what a command has just written."""

import time
from collections.abc import Callable
from typing import Final

from neuralrank.errors import NeuralrankError, NotFound
from neuralrank.settings import Settings

__all__ = ["unserved"]

# How long one question may take.
_TIMEOUT_S: Final = 2.0
# Longer than a sidecar takes to see what was just published, at its default registry_poll_seconds.
_PATIENCE_S: Final = 7


def unserved(
    settings: Settings, encoder: str, sleep: Callable[[float], None] = time.sleep
) -> tuple[str, ...]:
    """What there is to say of an index's encoder that the sidecar of the settings does not know.

    Nothing where it serves it, or finds it in its registry and will load it; and nothing where no
    sidecar answers, since an index may be made far from all of them.

    Args:
        encoder: name@hash; "": the index has no vectors.
    """
    # Loads gRPC; only needed here.
    from neuralrank.client import Client

    if not encoder:
        return ()
    try:
        with Client.of(settings, _TIMEOUT_S) as client:
            for _ in range(_PATIENCE_S):
                try:
                    client.encode(queries=["a"], encoder=encoder)
                    return ()
                except NotFound:
                    sleep(1.0)
    except NeuralrankError:
        return ()
    return (
        f"The sidecar at {settings.sidecar} neither serves {encoder} nor finds it in its registry, "
        "and ranks this index without vectors. Add it to that registry (`neuralrank models add "
        "… --registry URL`), or see `neuralrank models status` for why it is refused.",
    )
