"""The most that the wire contract takes, of what callers of ours look at before they send it. The
sidecar refuses more, and has the others (`sidecar.sizes`)."""

from typing import Final

__all__ = ["MAX_COLLABORATIVE", "MAX_INTERESTS", "MAX_QUERY"]

# Characters.
MAX_QUERY: Final = 2_048
# Of a user, told apart: each is a search of its own.
MAX_INTERESTS: Final = 8
# Ids of a user's likely items.
MAX_COLLABORATIVE: Final = 1_000
