"""Which vector space a request lives in: the encoder, and whether the index's vectors are its."""

from dataclasses import dataclass

from neuralrank.errors import EncoderMismatch, NotFound, Unavailable
from sidecar.features.opensearch import IndexInfo
from sidecar.models.serving import EncoderModel, Serving

__all__ = ["Space", "space_of", "space_of_unread", "strict_space"]


@dataclass(frozen=True, slots=True)
class Space:
    """`encoder` None: none serves that could be used, and `mismatch` or `missing` says why.

    `vectors`: whether the vectors in the index are those of `encoder`. False for an index that does
    not say whose they are, unless the caller does: equal lengths would hide a wrong neighbour.
    """

    encoder: EncoderModel | None
    vectors: bool
    # The index holds vectors of another encoder; "" if not.
    mismatch: str = ""
    # No encoder serves at all; "" if one does.
    missing: str = ""
    # The encoder of the index is published, and not loaded yet.
    loading: str = ""


def space_of(serving: Serving, index: IndexInfo | None, named: str) -> Space:
    """The encoder that was named, else the index's own, else the default.

    Raises:
        NotFound: an encoder was named that is not served.
        Unavailable: an encoder was named that is being loaded.
    """
    of_index = index.encoder if index else ""
    if named:
        encoder = serving.encoder(named)
        if not of_index:
            # The caller vouches for an index that does not speak for itself.
            return Space(encoder, vectors=True)
        try:
            same = serving.encoder(of_index).ref == encoder.ref
        except (NotFound, Unavailable):
            same = False
        if same:
            return Space(encoder, vectors=True)
        return Space(encoder, vectors=False, mismatch=_mismatch(index, encoder.ref))
    if of_index:
        try:
            return Space(serving.encoder(of_index), vectors=True)
        except NotFound as error:
            return Space(None, vectors=False, mismatch=f"{_mismatch(index, 'none')} {error}")
        except Unavailable as error:
            return Space(None, vectors=False, mismatch=str(error), loading=str(error))
    try:
        return Space(serving.encoder(), vectors=False)
    except NotFound as error:
        return Space(None, vectors=False, missing=str(error))


def space_of_unread(serving: Serving, named: str, width: int) -> Space:
    """As `space_of`, of an index that could not be read. Where no encoder is named, vectors that
    came with the request may be of any that serves: only one that is alone is believed to have made
    them, and only of its own length.

    Args:
        width: numbers in the vectors that came; 0: none did.
    """
    encoders = [one.encoder for one in serving.loaded.values() if one.encoder is not None]
    alone = len(encoders) == 1 and width in (0, encoders[0].dimensions)
    if named or alone or not encoders:
        return space_of(serving, None, named)
    return Space(None, vectors=False)


def strict_space(serving: Serving, index: IndexInfo | None, named: str) -> EncoderModel:
    """As `space_of`, where a vector of another space would be worse than none.

    Raises:
        NotFound: no such encoder is served.
        EncoderMismatch: the index holds vectors of another encoder, or does not say whose.
        Unavailable: the encoder is being loaded.
    """
    space = space_of(serving, index, named)
    if space.loading:
        raise Unavailable(space.loading)
    if space.mismatch:
        raise EncoderMismatch(space.mismatch)
    if space.encoder is None:
        raise NotFound(space.missing)
    if index is not None and not space.vectors:
        raise EncoderMismatch(
            f"Index {index.name!r} does not say which encoder its vectors come from: its mapping "
            "has no _meta.neuralrank.encoder. Name the encoder in the request, or index the "
            "catalogue with `neuralrank index`."
        )
    return space.encoder


def _mismatch(index: IndexInfo | None, wanted: str) -> str:
    name, holds = (index.name, index.encoder) if index else ("", "")
    return (
        f"Index {name!r} holds vectors of {holds}, and {wanted} is to be used. Serve that bundle "
        "(`neuralrank models list`), or index the catalogue again with the encoder that serves."
    )
