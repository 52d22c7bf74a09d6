"""What becomes of an index that could not be finished."""

from opensearchpy import OpenSearch

from neuralrank.errors import NeuralrankError, Overloaded, Unavailable
from neuralrank.generation import Generation

__all__ = ["give_up"]


def give_up(client: OpenSearch, generation: Generation, error: BaseException) -> None:
    """Keeps what a later `--resume` can use, deletes the rest, and adds to the error which."""
    kept = (
        f"{generation.alias!r} is as it was. The unfinished index {generation.index} is kept: go "
        "on with --resume, or run without it to begin anew (that also deletes it)."
    )
    if isinstance(error, KeyboardInterrupt | Unavailable | Overloaded):
        _append(error, kept)
        return
    try:
        generation.discard(client)
        _append(error, f"{generation.alias!r} is as it was; the unfinished index was deleted.")
    except NeuralrankError:
        _append(error, kept)


def _append(error: BaseException, sentence: str) -> None:
    """Adds a sentence to an error's message; to a bug's traceback as a note."""
    if isinstance(error, NeuralrankError | KeyboardInterrupt):
        error.args = (" ".join([*map(str, error.args[:1]), sentence]),)
    else:
        error.add_note(sentence)
