"""The ranking service, with a log line for who is refused by its token."""

from typing import Any

from neuralrank.errors import NeuralrankError, Unauthenticated
from sidecar.access.refusals import Refusals
from sidecar.rpc.service import RankingService

__all__ = ["NotingService"]


class NotingService(RankingService):
    """`RankingService` that notes these refusals."""

    def __init__(self, *parts: Any, refusals: Refusals) -> None:
        super().__init__(*parts)
        self._refusals = refusals

    async def refuse(self, method: str, error: NeuralrankError, context: Any) -> None:
        if isinstance(error, Unauthenticated):
            self._refusals.note(error, context.peer())
        await super().refuse(method, error, context)
