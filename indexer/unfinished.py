"""What becomes of an index that could not be finished."""

from opensearchpy import OpenSearch

from neuralrank.errors import NeuralrankError
from neuralrank.generation import Generation

__all__ = ["give_up"]


def give_up(
    client: OpenSearch, generation: Generation, error: BaseException, *, resumable: bool
) -> None:
    """Keeps what a later `--resume` can use, deletes the rest, and adds to the error which."""
    kept = (
        f"The unfinished index {generation.index} is kept: go on with --resume, or run without it "
        "to begin anew (that also deletes it)."
    )
    try:
        # An interruption, or an answer that did not come, may have been after the switch.
        if generation.serves(client):
            _append(error, f"{generation.alias!r} stands for the new index {generation.index}.")
        elif resumable:
            _append(error, f"{generation.alias!r} was left as it was. {kept}")
        else:
            generation.discard(client)
            _append(
                error, f"{generation.alias!r} was left as it was; the unfinished index was deleted."
            )
    except NeuralrankError:
        _append(error, kept)


def _append(error: BaseException, sentence: str) -> None:
    """Adds a sentence to an error's message; to a bug's traceback as a note."""
    if isinstance(error, NeuralrankError | KeyboardInterrupt):
        error.args = (" ".join([*map(str, error.args[:1]), sentence]),)
    else:
        error.add_note(sentence)
