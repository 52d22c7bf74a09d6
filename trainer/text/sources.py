"""Where weights come from: whatever a person can name."""

from collections.abc import Callable
from pathlib import Path

from neuralrank.bundles.bundle import MANIFEST, Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.models import Checkpoint, checkpoint
from neuralrank.models.bert_reader import read_bert

__all__ = ["BUNDLE", "MODEL", "read_source"]

# The folders in a run's folder that hold the bundle, or the base model, that it made.
BUNDLE = "bundle"
MODEL = "model"
_KEPT = ("name", "kind", "languages", "max_tokens", "licence", "query_prefix", "passage_prefix")


def read_source(
    source: str, registry: Registry, progress: Callable[[str], None] = lambda _: None
) -> Checkpoint:
    """The weights, sizes and tokenizer of a source.

    `fields` of what comes from a bundle has that as `parent`.

    Args:
        source: `package:NAME`, `hub:ORG/NAME`, a Hugging Face folder, a run's folder, a bundle's
            folder, or a bundle of the registry as `name` or `name@hash`.
        progress: called with what is being done, in words.

    Raises:
        InvalidInput: it holds no weights of a BERT family.
        NotFound: there is no such source; the message says what there could be.
        Unavailable: it can't be downloaded.
    """
    folder = Path(source)
    if source.startswith(("package:", "hub:")):
        return checkpoint(source, progress)
    if folder.is_dir():
        for place in (folder, folder / BUNDLE):
            if (place / MANIFEST).is_file():
                return _of_bundle(Bundle.open(place))
        if (folder / MODEL / "config.json").is_file():
            return checkpoint(str(folder / MODEL))
        if (folder / "options.json").is_file():
            raise InvalidInput(
                f"{folder} is a run that made no model yet. Run its command again: it goes on to "
                "the end."
            )
        return checkpoint(source)
    try:
        bundle = registry.get(source)
    except NotFound as error:
        raise NotFound(
            f"No source {source!r}: it is no folder, and no bundle. {error} Or give package:NAME, "
            "hub:ORG/NAME or the path of a folder."
        ) from error
    return _of_bundle(bundle)


def _of_bundle(bundle: Bundle) -> Checkpoint:
    manifest = bundle.manifest
    if manifest.kind not in ("encoder", "cross_encoder"):
        raise InvalidInput(
            f"{bundle.ref} is of kind {manifest.kind}; what reads text is an encoder or a "
            "cross_encoder."
        )
    weights, config, head = read_bert(bundle.model)
    fields = {name: getattr(manifest, name) for name in _KEPT}
    fields |= {"parent": bundle.ref, "source": bundle.ref}
    return Checkpoint(weights, config, head, bundle.tokenizer.read_bytes(), fields)
