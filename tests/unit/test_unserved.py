"""What `neuralrank index` and `reencode` say where a sidecar can't rank by what they wrote."""

import asyncio
from pathlib import Path

import pytest

from neuralrank.bundles.registry import Registry
from neuralrank.cli.served import unserved
from neuralrank.settings import Settings
from sidecar.settings import SidecarSettings
from tests.unit.client.test_client import SECRET, at
from tests.unit.conftest import tiny_bundle
from tests.unit.sidecar.secured import secured


async def asked(settings: Settings, encoder: str) -> tuple[tuple[str, ...], int]:
    """What is said, and for how many seconds it was waited for a sidecar to see the encoder."""
    waited: list[float] = []
    return await asyncio.to_thread(unserved, settings, encoder, waited.append), len(waited)


async def test_an_encoder_that_the_sidecar_does_not_know_is_said(tmp_path: Path) -> None:
    async with secured(tmp_path) as made:
        await made.loaded()
        (said,), seconds = await asked(Settings(sidecar=at(made)), "tiny@0123456789ab")
        # It looks every five seconds whether something was published.
        assert seconds > SidecarSettings().registry_poll_seconds
    assert f"{at(made)} neither serves tiny@0123456789ab nor finds it" in said


async def test_nothing_is_said_of_what_it_serves_or_will_load(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    serving = registry.publish(tiny_bundle(tmp_path / "a", "encoder"))
    candidate = registry.publish(
        tiny_bundle(tmp_path / "b", "encoder", max_tokens=32), candidate=True
    )
    async with secured(tmp_path) as made:
        await made.loaded()
        for ref in (serving.ref, candidate.ref):
            assert await asked(Settings(sidecar=at(made)), ref) == ((), 0)


async def test_nothing_is_said_where_nobody_answers_or_nobody_may_ask(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"shop: {SECRET}\n")
    async with secured(tmp_path, tokens=str(tokens)) as made:
        await made.loaded()
        assert await asked(Settings(sidecar=at(made)), "tiny@0123456789ab") == ((), 0)
    for fields in ({}, {"client_ca": str(tmp_path / "none.crt")}):
        settings = Settings(sidecar="127.0.0.1:1", **fields)
        assert await asked(settings, "tiny@0123456789ab") == ((), 0)


@pytest.mark.parametrize("sidecar", ["", "nonsense"])
async def test_an_address_that_can_not_be_used_fails_no_index(sidecar: str) -> None:
    assert await asked(Settings(sidecar=sidecar), "tiny@0123456789ab") == ((), 0)


async def test_an_index_without_vectors_needs_no_encoder() -> None:
    assert await asked(Settings(sidecar="127.0.0.1:1"), "") == ((), 0)
