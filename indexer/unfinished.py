"""What becomes of an index that could not be finished."""

from opensearchpy import OpenSearch

from neuralrank.errors import NeuralrankError, add_sentence
from neuralrank.opensearch.generation import Generation

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
        serving = generation.serving(client)
        left = f"{generation.alias!r} was left as it was"
        if serving:
            left = f"{left}, on {', '.join(serving)}"
        if generation.index in serving:
            add_sentence(
                error, f"{generation.alias!r} stands for the new index {generation.index}."
            )
        elif resumable:
            add_sentence(error, f"{left}. {kept}")
        else:
            generation.discard(client)
            add_sentence(error, f"{left}; the unfinished index was deleted.")
    except NeuralrankError:
        add_sentence(error, kept)
