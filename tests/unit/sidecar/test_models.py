"""Following the registry: what is published serves, what is broken is refused."""

import asyncio
import json
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx
import pytest
from pydantic import ValidationError

from neuralrank.bundles.bundle import MANIFEST, MODEL, Bundle, Manifest, content_hash
from neuralrank.bundles.in_service import InService
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidBundle, NotFound, Unavailable
from sidecar.models.follower import Models
from sidecar.models.loading import check_speed, load_bundle
from sidecar.models.serving import Loaded, Role, State, Status
from tests.unit.bundles.test_bundle_attacks import graph_of, reseal
from tests.unit.conftest import SMALL_PHOTO, tiny_bundle, tiny_image_bundle, tiny_ranker
from tests.unit.sidecar.parts import ONE_CORE, Clock


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "registry").mkdir()
    return Registry(str(tmp_path / "registry"))


async def test_what_is_published_serves_without_a_restart(
    registry: Registry, encoder_bundle: Bundle, cross_encoder_bundle: Bundle
) -> None:
    models = Models(registry, share=ONE_CORE)
    await models.refresh()
    assert models.statuses == []
    with pytest.raises(NotFound, match="Served: none"):
        models.serving.encoder()
    held = models.serving
    registry.publish(encoder_bundle)
    registry.publish(cross_encoder_bundle)
    await models.refresh()
    assert models.serving.encoder().ref == encoder_bundle.ref
    assert models.serving.encoder("tiny-encoder").ref == encoder_bundle.ref
    found = models.serving.cross_encoder_for("en")
    assert found is not None
    assert found[0].ref == cross_encoder_bundle.ref
    # Warming has measured what a pair costs.
    assert found[1].estimate(100.0) > 0
    assert models.serving.cross_encoder_for("zh") is None
    assert [(row.state, row.is_default) for row in models.statuses] == [
        (State.SERVING, True),
        (State.SERVING, True),
    ]
    assert held.loaded == {}
    models.close()


async def test_a_damaged_bundle_is_refused_with_its_reason_and_leaves_the_others_serving(
    registry: Registry, encoder_bundle: Bundle, cross_encoder_bundle: Bundle
) -> None:
    registry.publish(encoder_bundle)
    damaged = registry.publish(cross_encoder_bundle)
    with (damaged.path / MODEL).open("ab") as stream:
        stream.write(b"x")
    models = Models(registry, share=ONE_CORE)
    await models.refresh()
    states = {row.name: row for row in models.statuses}
    assert states["tiny-encoder"].state is State.SERVING
    assert states["tiny-cross-encoder"].state is State.REFUSED
    assert "damaged" in states["tiny-cross-encoder"].reason
    assert models.serving.encoder().ref == encoder_bundle.ref
    models.close()


async def test_a_personal_ranker_serves_beside_the_encoder_that_it_reads(
    registry: Registry, encoder_bundle: Bundle, tmp_path: Path
) -> None:
    encoder = registry.publish(encoder_bundle).ref
    first = registry.publish(tiny_ranker(tmp_path / "r", encoder, created="2026-01-01T00:00:00Z"))
    models = Models(registry, share=ONE_CORE)
    await models.refresh()
    found = models.serving.personal_ranker(encoder)
    assert found is not None
    assert found[0].ref == first.ref
    assert found[1].estimate(1_000.0) > 0  # warming has measured it
    assert models.serving.personal_ranker("other@0123456789ab") is None
    held = models.serving
    second = registry.publish(tiny_ranker(tmp_path / "s", encoder, sign=-1.0))
    await models.refresh()
    swapped = models.serving.personal_ranker(encoder)
    assert swapped is not None
    assert swapped[0].ref == second.ref
    before = held.personal_ranker(encoder)
    assert before is not None
    assert before[0].ref == first.ref
    states = {row.ref: row for row in models.statuses}
    assert states[second.ref].roles == (Role.SERVING,)
    assert states[second.ref].backend == "onnxruntime-cpu"
    assert states[encoder].max_tokens == encoder_bundle.manifest.max_tokens == 64
    # One that gives other scores than when it was made is refused, and this one stays.
    golden = [{"texts": ["search"], "values": [9.0] * 5}]
    wrong = registry.publish(tiny_ranker(tmp_path / "w", encoder, sign=0.5, golden=golden))
    await models.refresh()
    states = {row.ref: row for row in models.statuses}
    assert states[wrong.ref].state is State.REFUSED
    assert "computes something else" in states[wrong.ref].reason
    after = models.serving.personal_ranker(encoder)
    assert after is not None
    assert after[0].ref == second.ref
    models.close()


@pytest.mark.parametrize("wanted", ["none", "other", "tiny-ranker", "tiny-ranker@{hash}", ""])
async def test_settings_name_the_personal_ranker_or_none(
    registry: Registry, tmp_path: Path, wanted: str
) -> None:
    encoder = "e@0123456789ab"
    old = registry.publish(tiny_ranker(tmp_path / "r", encoder, created="2026-01-01T00:00:00Z"))
    new = registry.publish(tiny_ranker(tmp_path / "s", encoder, sign=-1.0))
    given = wanted.format(hash=old.hash)
    models = Models(registry, share=ONE_CORE, default_personal=given)
    await models.refresh()
    found = models.serving.personal_ranker(encoder)
    if wanted in ("none", "other"):
        assert found is None
    else:
        assert found is not None
        assert found[0].ref == (old.ref if "@" in wanted else new.ref)
    defaults = [row.ref for row in models.statuses if row.is_default]
    assert defaults == ([] if found is None else [found[0].ref])
    models.close()


async def test_an_image_encoder_serves_and_one_that_reads_texts_is_refused(
    registry: Registry, tmp_path: Path
) -> None:
    good = registry.publish(tiny_image_bundle(tmp_path / "good"))
    texts = tiny_bundle(tmp_path / "p", "image_encoder", name="texts", image=SMALL_PHOTO)
    registry.publish(texts)
    models = Models(registry, share=ONE_CORE)
    await models.refresh()
    rows = {row.name: row for row in models.statuses}
    assert rows["tiny-images"].state is State.SERVING
    assert rows["tiny-images"].is_default
    assert models.serving.image_encoder().ref == good.ref
    assert rows["texts"].state is State.REFUSED
    assert "an image encoder has one, of pixels" in rows["texts"].reason
    with pytest.raises(NotFound, match=r"No image_encoder 'other' is served. Served: tiny-images@"):
        models.serving.image_encoder("other")
    models.close()


async def test_of_one_name_the_newest_answers_and_the_older_one_still_serves(
    registry: Registry, tmp_path: Path
) -> None:
    old = registry.publish(
        tiny_bundle(tmp_path / "old", "encoder", created="2026-01-01T00:00:00Z", parent="old")
    )
    new = registry.publish(
        tiny_bundle(tmp_path / "new", "encoder", created="2026-02-01T00:00:00Z", parent="new")
    )
    models = Models(registry, share=ONE_CORE, default_encoder="tiny-encoder")
    await models.refresh()
    assert models.serving.encoder("tiny-encoder").ref == new.ref
    assert {row.ref: row.is_default for row in models.statuses} == {old.ref: False, new.ref: True}
    with pytest.raises(Unavailable):
        models.serving.encoder(old.ref)
    await models.refresh()
    assert models.serving.encoder(old.ref).ref == old.ref
    assert models.serving.encoder("tiny-encoder").ref == new.ref
    models.close()


async def test_a_registry_that_is_gone_for_a_moment_takes_no_model_away(
    registry: Registry, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish(encoder_bundle)
    models = Models(registry, share=ONE_CORE)
    await models.refresh()

    def gone() -> list[str]:
        raise OSError("the disk is away")

    monkeypatch.setattr(registry, "refs", gone)
    await models.refresh()
    assert models.serving.encoder().ref == encoder_bundle.ref
    models.close()


def cross_encoder(folder: Path, day: int, **fields: object) -> Bundle:
    """One of several bundles of a name, by the day it was made."""
    created = f"2026-01-{day:02d}T00:00:00Z"
    made = {"created": created, "parent": str(day), "languages": ["en"], **fields}
    return tiny_bundle(folder / f"made-{day}", "cross_encoder", **made)


def row(models: Models, ref: str) -> Status:
    return next(status for status in models.statuses if status.ref == ref)


def scored(models: Models, key: str = "") -> str:
    found = models.serving.arm(key).cross_encoder_for("en")
    assert found is not None
    return found[0].ref


@pytest.fixture
def models(registry: Registry) -> Iterator[Models]:
    made = Models(registry, share=ONE_CORE, max_slowdown=1_000)
    yield made
    made.close()


async def test_a_swap_frees_the_old_bundle_with_the_last_request_that_holds_it(
    registry: Registry, models: Models, tmp_path: Path
) -> None:
    freed: list[str] = []

    async def note(ref: str) -> None:
        freed.append(ref)

    models.on_freed(note)
    old = registry.publish(cross_encoder(tmp_path, 1))
    await models.refresh()
    held = models.serving.cross_encoder_for("en")
    assert held is not None
    gone = weakref.ref(held[0])
    new = registry.publish(cross_encoder(tmp_path, 2))
    await models.refresh()
    await models.refresh()  # the thread that loaded has certainly let go
    assert scored(models) == new.ref
    assert set(models.serving.loaded) == {new.ref}
    assert row(models, old.ref).roles == (Role.PREVIOUS,)
    assert row(models, old.ref).state is State.PUBLISHED
    # A request that began with it ends with it.
    assert gone() is not None
    assert len(held[0].score("abc", ["abd"])) == 1
    del held
    assert gone() is None
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert freed == [old.ref]


async def test_promotion_and_rollback_are_followed(
    registry: Registry, models: Models, tmp_path: Path
) -> None:
    first, second = (registry.publish(cross_encoder(tmp_path, day)).ref for day in (1, 2))
    await models.refresh()
    assert scored(models) == second
    registry.promote(first)
    await models.refresh()
    assert scored(models) == first
    registry.rollback("tiny-cross-encoder")
    await models.refresh()
    assert scored(models) == second
    assert row(models, second).roles == (Role.SERVING,)


async def test_a_rollback_to_nothing_has_another_name_answer_in_running_sidecars_too(
    registry: Registry, models: Models, tmp_path: Path
) -> None:
    other = registry.publish(cross_encoder(tmp_path, 1, name="neuralrank-small")).ref
    shop = registry.publish(cross_encoder(tmp_path, 2, name="a-shop"), candidate=True).ref
    registry.promote(shop)
    await models.refresh()
    assert scored(models) == shop
    assert registry.rollback("a-shop") == ""
    await models.refresh()
    assert scored(models) == other
    assert set(models.serving.loaded) == {other}
    registry.promote(shop)
    await models.refresh()
    assert scored(models) == shop


@pytest.mark.parametrize("waits", [False, True], ids=["alone", "beside a candidate"])
async def test_what_the_registry_does_not_list_for_a_moment_goes_on_answering(
    registry: Registry,
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    waits: bool,
) -> None:
    registry.publish(cross_encoder(tmp_path, 1, name="neuralrank-small"))
    shop = registry.publish(cross_encoder(tmp_path, 2, name="a-shop")).ref
    if waits:  # of the name that is left one bundle is listed, which may not serve
        registry.publish(cross_encoder(tmp_path, 3, name="a-shop"), candidate=True)
    await models.refresh()
    refs = [ref for ref in registry.refs() if ref != shop]
    monkeypatch.setattr(registry, "refs", lambda: refs)
    await models.refresh()
    assert scored(models) == shop


async def test_a_candidate_that_settings_name_by_its_hash_is_the_default_cross_encoder(
    registry: Registry, tmp_path: Path
) -> None:
    registry.publish(cross_encoder(tmp_path, 1, name="neuralrank-small"))
    shop = registry.publish(cross_encoder(tmp_path, 2, name="z-shop"), candidate=True).ref
    models = Models(registry, share=ONE_CORE, default_cross_encoder=shop)
    await models.refresh()
    assert scored(models) == shop
    models.close()


def truncated(bundle: Bundle) -> None:
    bundle.model.write_bytes(bundle.model.read_bytes()[:1_000])


def corrupted(bundle: Bundle) -> None:
    data = bytearray(bundle.model.read_bytes())
    data[len(data) // 2] ^= 0xFF
    bundle.model.write_bytes(data)


def manifest(**changes: object) -> Callable[[Bundle], None]:
    def change(bundle: Bundle) -> None:
        file = bundle.path / MANIFEST
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def graph(width: int, value: float) -> Callable[[Bundle], None]:
    def change(bundle: Bundle) -> None:
        onnx.save(graph_of("logits", width, value), str(bundle.model))
        reseal(bundle.path)

    return change


def moved(bundle: Bundle) -> Path:
    """To where a bundle of this content is looked for."""
    digits = content_hash(Manifest.model_validate_json((bundle.path / MANIFEST).read_bytes()))
    return bundle.path.rename(bundle.path.parent / digits)


BAD: list[tuple[str, Callable[[Bundle], None], str]] = [
    ("truncated", truncated, "damaged or was changed"),
    ("corrupted", corrupted, "damaged or was changed"),
    ("of a wrong shape", graph(3, 0.5), "gives scores of shape"),
    ("NaN", graph(1, float("nan")), "NaN or infinite"),
    ("failing its golden scores", manifest(
        golden=[{"texts": ["a", "b"], "values": [77.0]}]
    ), "was published with [77.]"),
    ("of an unknown kind", manifest(kind="oracle"), "kind: got 'oracle'"),
    ("of an unknown format", manifest(format=9), "format: got 9"),
    ("of another kind than its graph", manifest(
        kind="image_encoder", image=SMALL_PHOTO, golden=()
    ), "an image encoder has one, of pixels"),
    ("leaving its folder", manifest(files={"../x": "0" * 64}), "outside the bundle"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), [(d, w) for _, d, w in BAD], ids=[b[0] for b in BAD])
async def test_a_bad_bundle_is_refused_with_its_reason_and_the_old_one_serves_on(
    registry: Registry,
    models: Models,
    tmp_path: Path,
    damage: Callable[[Bundle], None],
    words: str,
) -> None:
    good = registry.publish(cross_encoder(tmp_path, 1))
    await models.refresh()
    bad = registry.publish(cross_encoder(tmp_path, 2))
    damage(bad)
    # What changes the content but not the file's checksum has another hash, and so another folder.
    with suppress(InvalidBundle, ValidationError):
        moved(bad)
    loads = count_loads(models)
    for _ in range(3):
        await models.refresh()
    (refused,) = [status for status in models.statuses if status.state is State.REFUSED]
    assert words in refused.reason
    assert scored(models) == good.ref
    assert set(models.serving.loaded) == {good.ref}
    assert len(loads) <= 1  # not at every look


def count_loads(models: Models) -> list[str]:
    loads: list[str] = []
    checked = models._checked

    def counting(ref: str, incumbent: object) -> Loaded:
        loads.append(ref)
        return checked(ref, incumbent)  # type: ignore[arg-type]

    models._checked = counting  # type: ignore[method-assign, assignment]
    return loads


async def test_a_refused_bundle_is_looked_at_again_when_its_files_change(
    registry: Registry, models: Models, tmp_path: Path
) -> None:
    bundle = registry.publish(cross_encoder(tmp_path, 1))
    data = bundle.model.read_bytes()
    bundle.model.write_bytes(data[:500])
    await models.refresh()
    assert row(models, bundle.ref).state is State.REFUSED
    bundle.model.write_bytes(data)
    await models.refresh()
    assert row(models, bundle.ref).state is State.SERVING


async def test_a_bundle_whose_last_file_comes_while_it_is_looked_at_serves_at_the_next_look(
    registry: Registry, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = registry.publish(cross_encoder(tmp_path, 1))
    late = bundle.model.rename(tmp_path / MODEL)
    get = registry.get

    def arriving(ref: str) -> Bundle:
        try:
            return get(ref)
        finally:
            if late.exists():
                late.rename(bundle.model)

    monkeypatch.setattr(registry, "get", arriving)
    await models.refresh()
    assert "missing" in row(models, bundle.ref).reason
    await models.refresh()
    assert scored(models) == bundle.ref


async def test_a_manifest_that_is_whole_only_after_it_was_read_serves_at_the_next_look(
    registry: Registry, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = registry.publish(cross_encoder(tmp_path, 1))
    file = bundle.path / MANIFEST
    whole = file.read_text()
    file.write_text(whole[:100])
    read = registry.manifest

    def arriving(ref: str) -> Manifest:
        try:
            return read(ref)
        finally:
            if file.stat().st_size < len(whole):
                file.write_text(whole)

    monkeypatch.setattr(registry, "manifest", arriving)
    await models.refresh()
    assert row(models, bundle.ref).state is State.REFUSED
    await models.refresh()
    assert scored(models) == bundle.ref


async def test_after_a_restart_a_refused_bundle_does_not_keep_the_one_before_it_from_serving(
    registry: Registry, models: Models, tmp_path: Path
) -> None:
    good = registry.publish(cross_encoder(tmp_path, 1))
    truncated(registry.publish(cross_encoder(tmp_path, 2)))
    await models.refresh()
    assert scored(models) == good.ref


async def test_a_slower_bundle_is_refused_unless_its_promotion_allows_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models(registry, share=ONE_CORE, max_slowdown=3.0)
    fast = registry.publish(cross_encoder(tmp_path, 1))
    await models.refresh()
    slow = registry.publish(cross_encoder(tmp_path, 2))
    seconds = {fast.ref: 0.002, slow.ref: 0.008}
    timed(monkeypatch, seconds)
    await models.refresh()
    assert scored(models) == fast.ref
    assert "4.0 times as long; allowed is 3 times" in row(models, slow.ref).reason
    registry.promote(slow.ref, max_slowdown=5.0)
    await models.refresh()
    assert scored(models) == slow.ref
    # What served before may be slower than what took its place.
    seconds[fast.ref] = 1.0
    registry.rollback("tiny-cross-encoder")
    await models.refresh()
    assert scored(models) == fast.ref
    models.close()


@pytest.mark.parametrize("known", ["canary", "shadow", "by its hash"])
async def test_a_bundle_that_is_loaded_already_takes_no_place_that_it_is_too_slow_for(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    models = Models(registry, share=ONE_CORE, max_slowdown=3.0)
    fast = registry.publish(cross_encoder(tmp_path, 1)).ref
    slow = registry.publish(cross_encoder(tmp_path, 2), candidate=True).ref
    if known in ("canary", "shadow"):
        registry.try_out(slow, known, 20.0)
    await models.refresh()
    if known == "by its hash":
        with pytest.raises(Unavailable):
            models.serving.cross_encoder(slow)
        await models.refresh()
    tried = models.serving.loaded[slow]
    runs = timed(monkeypatch, {fast: 0.002, slow: 0.008})
    registry.promote(slow)
    await models.refresh()
    assert scored(models) == fast
    assert row(models, slow).state is State.REFUSED
    assert "4.0 times as long; allowed is 3 times" in row(models, slow).reason
    compared = len(runs)
    await models.refresh()
    assert len(runs) == compared  # not at every look
    # One that a request asked for by its hash goes on answering there.
    assert (models.serving.loaded.get(slow) is tried) is (known == "by its hash")
    registry.promote(slow, max_slowdown=5.0)
    await models.refresh()
    assert scored(models) == slow
    compared = len(runs)
    await models.refresh()
    assert len(runs) == compared
    models.close()


def timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> list[str]:
    """Has each bundle take so long, and notes which were compared."""
    runs: list[str] = []

    def run(work: object) -> float:
        assert threading.current_thread() is not threading.main_thread()
        if not isinstance(work, str):  # one that is being loaded is warmed
            return 0.001
        runs.append(work)
        return seconds[work]

    monkeypatch.setattr("sidecar.models.loading._work", lambda loaded: loaded.status.ref)
    monkeypatch.setattr("sidecar.models.loading._seconds", run)
    return runs


async def test_after_a_restart_a_slow_bundle_gives_way_to_the_one_before_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: dict[str, float] = {}
    runs = timed(monkeypatch, seconds)
    fast = registry.publish(cross_encoder(tmp_path, 1)).ref
    damaged = registry.publish(cross_encoder(tmp_path, 2))
    truncated(damaged)  # none to be held to, and nothing that anybody asks for
    slow = registry.publish(cross_encoder(tmp_path, 3)).ref
    alone = registry.publish(cross_encoder(tmp_path, 1, name="z")).ref
    seconds |= {fast: 0.002, slow: 0.008}
    models = Models(registry, share=ONE_CORE, max_slowdown=3.0)
    await models.refresh()
    # Ready with what there is; nothing else was loaded for it.
    assert scored(models) == slow
    assert models.serving.loaded.keys() == {slow, alone}
    held = models.serving
    await models.hold_to_earlier()
    assert scored(models) == fast
    assert damaged.ref not in {status.ref for status in models.statuses if status.reason}
    assert row(models, slow).state is State.REFUSED
    assert "4.0 times as long; allowed is 3 times" in row(models, slow).reason
    assert models.serving.loaded.keys() == {fast, alone}
    assert held.cross_encoder("tiny-cross-encoder")[0].ref == slow
    # It stays so.
    compared = len(runs)
    await models.refresh()
    await models.hold_to_earlier()
    assert scored(models) == fast
    assert len(runs) == compared
    # An index may name it, of which the sidecar has heard a moment later only.
    models.name_encoders({slow})
    await models.refresh()
    assert scored(models) == fast
    assert row(models, slow).state is State.REFUSED
    assert models.serving.cross_encoder(slow)[0].ref == slow
    models.close()


@pytest.mark.parametrize("by", ["its promotion", "a rollback", "its speed"])
async def test_after_a_restart_what_may_serve_is_left_in_its_place(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    seconds: dict[str, float] = {}
    timed(monkeypatch, seconds)
    other = registry.publish(cross_encoder(tmp_path, 1)).ref
    served = registry.publish(cross_encoder(tmp_path, 2)).ref
    seconds |= {other: 0.002, served: 0.002 if by == "its speed" else 0.008}
    if by == "its promotion":
        registry.promote(served, max_slowdown=5.0)
    if by == "a rollback":
        registry.promote(other)
        registry.promote(served)
        registry.promote(other)
        registry.rollback("tiny-cross-encoder")
    models = await restarted(registry, max_slowdown=3.0)
    assert scored(models) == served
    assert models.serving.loaded.keys() == {served}
    models.close()


async def test_a_slow_bundle_takes_no_place_under_a_new_name_either(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: dict[str, float] = {}
    runs = timed(monkeypatch, seconds)
    models = Models(registry, share=ONE_CORE, max_slowdown=3.0)
    fast = registry.publish(cross_encoder(tmp_path, 1)).ref
    seconds[fast] = 0.002
    await models.refresh()
    # First by the alphabet: it would answer all that name no bundle.
    slow = registry.publish(cross_encoder(tmp_path, 2, name="a-large")).ref
    seconds[slow] = 0.008
    await models.refresh()
    assert scored(models) == fast
    assert row(models, slow).state is State.REFUSED
    assert "4.0 times as long; allowed is 3 times" in row(models, slow).reason
    assert "NEURALRANK_SIDECAR_DEFAULT_CROSS_ENCODER" in row(models, slow).reason
    compared = len(runs)
    await models.refresh()
    assert len(runs) == compared  # not at every look
    # A person's word.
    registry.promote(slow, max_slowdown=5.0)
    await models.refresh()
    assert scored(models) == slow
    models.close()


async def restarted(registry: Registry, **settings: Any) -> Models:
    """What a sidecar has a moment after its start."""
    models = Models(registry, share=ONE_CORE, **settings)
    await models.refresh()
    await models.hold_to_earlier()
    return models


def published(registry: Registry, bundle: Bundle, day: int) -> str:
    """As if it had come on a day of January 2026."""
    made = registry.publish(bundle)
    when = datetime(2026, 1, day, tzinfo=UTC).timestamp()
    os.utime(made.path / MANIFEST, (when, when))
    return made.ref


async def test_a_slow_bundle_of_a_new_name_takes_no_place_by_a_restart(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: dict[str, float] = {}
    runs = timed(monkeypatch, seconds)
    fast = published(registry, cross_encoder(tmp_path, 4), 1)
    # Made before the other one, and brought here after it.
    older, slow = (
        published(registry, cross_encoder(tmp_path, day, name="a-large"), day) for day in (2, 3)
    )
    seconds |= {fast: 0.002, older: 0.008, slow: 0.009}
    models = Models(registry, share=ONE_CORE, max_slowdown=3.0)
    await models.refresh()
    assert scored(models) == slow  # ready with what there is
    await models.hold_to_earlier()
    assert scored(models) == fast
    assert models.serving.loaded.keys() == {fast}
    for ref, times in ((slow, "4.5"), (older, "4.0")):
        assert row(models, ref).state is State.REFUSED
        assert f"{times} times as long; allowed is 3 times" in row(models, ref).reason
    compared = len(runs)
    await models.refresh()
    assert (scored(models), len(runs)) == (fast, compared)
    # A person's word, which holds at the next start too.
    registry.promote(slow, max_slowdown=5.0)
    await models.refresh()
    assert scored(models) == slow
    models.close()
    models = await restarted(registry, max_slowdown=3.0)
    assert scored(models) == slow
    models.close()


async def test_after_a_restart_one_of_a_new_name_that_was_fast_enough_serves_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: dict[str, float] = {}
    timed(monkeypatch, seconds)
    first = published(registry, cross_encoder(tmp_path, 1), 1)
    good, slow = (
        published(registry, cross_encoder(tmp_path, day, name="a-large"), day) for day in (2, 3)
    )
    # Slow beside the other name, and not beside the one before it.
    seconds |= {first: 0.002, good: 0.005, slow: 0.009}
    models = await restarted(registry, max_slowdown=3.0)
    assert scored(models) == good
    assert row(models, slow).state is State.REFUSED
    models.close()


@pytest.mark.parametrize("why", ["it came first", "settings name it", "settings name the other"])
async def test_after_a_restart_a_slow_bundle_is_left_where_it_took_no_place(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    seconds: dict[str, float] = {}
    timed(monkeypatch, seconds)
    days = (1, 2) if why == "it came first" else (2, 1)
    # What came first was made last.
    slow = published(registry, cross_encoder(tmp_path, days[1], name="a-large"), days[0])
    fast = published(registry, cross_encoder(tmp_path, days[0]), days[1])
    seconds |= {fast: 0.002, slow: 0.9}
    named = {"settings name it": "a-large", "settings name the other": "tiny-cross-encoder"}
    models = await restarted(registry, default_cross_encoder=named.get(why, ""))
    assert scored(models) == (fast if why == "settings name the other" else slow)
    assert models.serving.cross_encoder("a-large")[0].ref == slow
    models.close()


async def test_an_encoder_that_knows_more_languages_is_held_to_no_other_by_a_restart(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: dict[str, float] = {}
    timed(monkeypatch, seconds)
    few, most = (
        published(
            registry, tiny_bundle(tmp_path / name, "encoder", name=name, languages=languages), day
        )
        for day, name, languages in ((1, "z", ["zh"]), (2, "m", ["en", "zh"]))
    )  # fmt: skip
    seconds |= {few: 0.002, most: 0.9}
    models = await restarted(registry)
    assert models.serving.encoder().ref == most
    models.close()


@pytest.mark.parametrize("default", ["tiny-cross-encoder", "tiny-cross-encoder@{hash}", "a-large"])
async def test_a_slow_bundle_serves_whoever_names_it_and_where_settings_name_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: str
) -> None:
    seconds: dict[str, float] = {}
    runs = timed(monkeypatch, seconds)
    fast = registry.publish(cross_encoder(tmp_path, 1)).ref
    seconds[fast] = 0.002
    wanted = default.format(hash=fast.partition("@")[2])
    models = Models(registry, share=ONE_CORE, default_cross_encoder=wanted)
    await models.refresh()
    # Neither the last by the alphabet is asked by who names none.
    for day, name in ((2, "a-large"), (3, "z-large")):
        slow = registry.publish(cross_encoder(tmp_path, day, name=name)).ref
        seconds[slow] = 0.8
        await models.refresh()
        assert models.serving.cross_encoder(name)[0].ref == slow
    assert scored(models).startswith(f"{default.partition('@')[0]}@")
    assert runs == []
    models.close()


async def test_a_new_name_is_compared_with_what_answers_each_of_its_languages(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: dict[str, float] = {}
    timed(monkeypatch, seconds)
    models = Models(registry, share=ONE_CORE)

    async def publish(day: int, name: str, milliseconds: int, *languages: str) -> str:
        made = cross_encoder(tmp_path, day, name=name, languages=languages)
        ref = registry.publish(made).ref
        seconds[ref] = milliseconds / 1_000
        await models.refresh()
        return ref

    def answering(language: str) -> str:
        found = models.serving.cross_encoder_for(language)
        return found[0].ref if found else ""

    large = await publish(1, "g", 20, "en")
    small = await publish(2, "z", 2, "zh")
    # Fast enough for English, and not for Chinese, which is what it would answer too.
    both = await publish(3, "c", 30, "en", "zh")
    assert "15.0 times as long" in row(models, both).reason
    assert (answering("en"), answering("zh")) == (large, small)
    # Chinese is not its own; of a query without a language it is the first.
    english = await publish(4, "d", 30, "en")
    assert (answering("en"), answering("zh")) == (english, small)
    # One that knows all languages takes those that others are named for.
    every = await publish(5, "b", 30)
    assert "15.0 times as long" in row(models, every).reason
    # A language that nobody served has nobody to be compared with.
    french = await publish(6, "x", 900, "fr")
    assert answering("fr") == french
    # Queries without a language would be the first name's, whatever that knows.
    first = await publish(8, "a", 900, "fr")
    assert "30.0 times as long" in row(models, first).reason
    # A name in service may come to know one more.
    more = await publish(7, "d", 50, "en", "zh")
    assert "25.0 times as long" in row(models, more).reason
    assert (answering("en"), answering("zh")) == (english, small)
    models.close()


async def test_the_encoder_that_knows_most_languages_answers_who_names_none(
    registry: Registry, tmp_path: Path
) -> None:
    models = Models(registry, share=ONE_CORE)
    for name, languages in (("a", ["zh"]), ("b", ["en", "zh"]), ("c", ["en", "zh"])):
        registry.publish(tiny_bundle(tmp_path / name, "encoder", name=name, languages=languages))
    await models.refresh()
    assert models.serving.encoder().ref == registry.resolve("b")
    assert models.serving.encoder("a").ref == registry.resolve("a")
    assert [status.name for status in models.statuses if status.is_default] == ["b"]
    # One that knows all languages.
    registry.publish(tiny_bundle(tmp_path / "d", "encoder", name="d"))
    await models.refresh()
    assert models.serving.encoder().ref == registry.resolve("d")
    models.close()


async def test_the_default_cross_encoder_is_the_first_by_name(
    registry: Registry, tmp_path: Path
) -> None:
    """It is asked by language; that it knows another one, too, puts none before it."""
    models = Models(registry, share=ONE_CORE)
    english = registry.publish(cross_encoder(tmp_path, 1, name="a", languages=["en"])).ref
    registry.publish(cross_encoder(tmp_path, 2, name="b", languages=["en", "zh"]))
    await models.refresh()
    assert models.serving.pick("", "cross_encoder").status.ref == english
    assert [status.name for status in models.statuses if status.is_default] == ["a"]
    models.close()


@pytest.mark.parametrize("kind", ["encoder", "image_encoder", "personal_ranker"])
async def test_every_kind_is_held_to_what_answers_today(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    seconds: dict[str, float] = {}
    timed(monkeypatch, seconds)
    models = Models(registry, share=ONE_CORE)
    encoder = "e@0123456789ab"

    def made(name: str) -> Bundle:
        if kind == "personal_ranker":
            return tiny_ranker(tmp_path / name, encoder, name=name)
        if kind == "image_encoder":
            return tiny_image_bundle(tmp_path / name, name=name)
        return tiny_bundle(tmp_path / name, "encoder", name=name)

    def answering() -> str:
        if kind == "personal_ranker":
            found = models.serving.personal_ranker(encoder)
            assert found is not None
            return found[0].ref
        return models.serving.pick("", kind).status.ref

    fast = registry.publish(made("m")).ref
    seconds[fast] = 0.002
    await models.refresh()
    slow, aside = (registry.publish(made(name)).ref for name in ("a", "z"))
    seconds |= {slow: 0.2, aside: 0.2}
    await models.refresh()
    assert answering() == fast
    assert row(models, slow).state is State.REFUSED
    assert "100.0 times as long" in row(models, slow).reason
    assert row(models, aside).state is State.SERVING
    models.close()


async def test_a_bundle_that_was_too_slow_serves_once_what_it_was_held_to_serves_no_more(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: dict[str, float] = {}
    timed(monkeypatch, seconds)
    models = Models(registry, share=ONE_CORE)
    fast = registry.publish(cross_encoder(tmp_path, 1)).ref
    seconds[fast] = 0.002
    await models.refresh()
    slow = registry.publish(cross_encoder(tmp_path, 2, name="a-large")).ref
    seconds[slow] = 0.8
    await models.refresh()
    assert scored(models) == fast
    state = Path(registry.url) / "tiny-cross-encoder" / "serving.json"
    state.write_text('{"format": 1, "serving": "none"}')
    await models.refresh()
    await models.refresh()
    assert scored(models) == slow
    models.close()


async def test_after_a_restart_no_name_is_held_to_another_that_is_loaded_in_the_same_look(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = timed(monkeypatch, {})
    names = ["b", "a", "c"]
    for day, name in enumerate(names, start=1):
        registry.publish(cross_encoder(tmp_path, day, name=name))
    models = Models(registry, share=ONE_CORE)
    await models.refresh()
    assert sorted(models.serving.current or {}) == sorted(names)
    assert scored(models).startswith("a@")
    assert runs == []
    models.close()


async def test_one_fast_round_is_enough_on_a_busy_machine(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (cross_encoder(tmp_path, day) for day in (1, 2))
    registry.publish(one)
    registry.publish(two)
    loaded = [load_bundle(registry, bundle.ref, ONE_CORE) for bundle in (one, two)]
    # The candidate's runs are disturbed but for the sixth.
    runs = iter([0.001, 0.009] * 5 + [0.001, 0.001])
    monkeypatch.setattr("sidecar.models.loading._seconds", lambda _: next(runs))
    check_speed(loaded[0], loaded[1], 1.5)
    assert next(runs, None) is None


async def test_a_canary_answers_its_share_of_users_and_always_the_same(
    registry: Registry, models: Models, tmp_path: Path
) -> None:
    old = registry.publish(cross_encoder(tmp_path, 1)).ref
    new = registry.publish(cross_encoder(tmp_path, 2), candidate=True).ref
    registry.try_out(new, "canary", 20.0)
    await models.refresh()
    users = [f"user-{number}" for number in range(2_000)]
    chosen = {user for user in users if scored(models, user) == new}
    assert 320 < len(chosen) < 480
    assert chosen == {user for user in users if scored(models, user) == new}
    assert scored(models, "") == old
    registry.try_out(new, "canary", 50.0)
    await models.refresh()
    assert chosen < {user for user in users if scored(models, user) == new}
    status = row(models, new)
    assert (status.roles, status.percent) == ((Role.CANARY,), 50.0)
    assert models.serving.is_canary(new)
    registry.try_out(new, "canary", 0)
    await models.refresh()
    assert {scored(models, user) for user in users} == {old}
    assert new not in models.serving.loaded


async def test_each_candidate_is_tried_on_users_of_its_own(
    registry: Registry, models: Models, tmp_path: Path
) -> None:
    registry.publish(cross_encoder(tmp_path, 1))
    chosen = []
    for day in (2, 3):
        new = registry.publish(cross_encoder(tmp_path, day), candidate=True).ref
        registry.try_out(new, "canary", 20.0)
        await models.refresh()
        users = [f"user-{number}" for number in range(1_000)]
        chosen.append({user for user in users if scored(models, user) == new})
    assert len(chosen[0] & chosen[1]) < len(chosen[0]) / 2


async def test_an_old_encoder_stays_as_long_as_an_index_names_it(
    registry: Registry, models: Models, tmp_path: Path
) -> None:
    old, new = (
        registry.publish(
            tiny_bundle(tmp_path / str(day), "encoder", created=f"2026-01-0{day}T00:00:00Z",
                        parent=str(day))
        ).ref
        for day in (1, 2)
    )  # fmt: skip
    models.name_encoders([old])
    await models.refresh()
    assert models.serving.encoder().ref == new
    assert models.serving.encoder(old).ref == old
    models.name_encoders([])
    models._asked.clear()
    await models.refresh()
    assert set(models.serving.loaded) == {new}


async def test_a_wait_that_is_cancelled_as_it_ends_is_cancelled(registry: Registry) -> None:
    # Else the one who waits goes on for ever, after the sidecar has stopped.
    models = Models(registry, share=ONE_CORE, max_slowdown=1_000)
    waiting = asyncio.create_task(models.wait(3_600))
    await asyncio.sleep(0)
    models.name_encoders(["new@000000000001"])
    # One turn for each step from the event to the one who waits.
    for _ in range(5):
        waiting.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_is_asked_for_by_hash_is_loaded_and_let_go(
    registry: Registry, tmp_path: Path
) -> None:
    clock = Clock()
    models = Models(
        registry, share=ONE_CORE, max_slowdown=1_000, asked_bundles=1, asked_seconds=60, clock=clock
    )
    first, second, third = (registry.publish(cross_encoder(tmp_path, day)).ref for day in (1, 2, 3))
    await models.refresh()
    with pytest.raises(Unavailable, match="is being loaded"):
        models.serving.cross_encoder(first)
    async with asyncio.timeout(5):
        await models.wait(3_600)  # at once
    await models.refresh()
    assert models.serving.cross_encoder(first)[0].ref == first
    assert scored(models) == third
    clock.now += 1
    with pytest.raises(Unavailable):
        models.serving.cross_encoder(second)
    await models.refresh()
    assert set(models.serving.loaded) == {second, third}  # no more than one is kept
    clock.now += 61
    await models.refresh()
    assert set(models.serving.loaded) == {third}
    with pytest.raises(NotFound):
        models.serving.cross_encoder("tiny-cross-encoder@000000000000")
    models.close()


async def test_where_none_may_be_loaded_by_its_hash_none_is_and_nobody_is_told_to_wait(
    registry: Registry, tmp_path: Path
) -> None:
    models = Models(registry, share=ONE_CORE, max_slowdown=1_000, asked_bundles=1)
    none = Models(registry, share=ONE_CORE, max_slowdown=1_000, asked_bundles=0)
    first, second = (registry.publish(cross_encoder(tmp_path, day)).ref for day in (1, 2))
    for made, loaded in ((models, {first, second}), (none, {second})):
        await made.refresh()
        made._ask(first)
        await made.refresh()
        assert set(made.serving.loaded) == loaded
        made.close()
    with pytest.raises(NotFound, match=f"Served: {second}"):
        none.serving.cross_encoder(first)
    assert none.serving.cross_encoder(second)[0].ref == second


async def test_a_damaged_serving_file_changes_nothing_and_is_said(
    registry: Registry, models: Models, tmp_path: Path
) -> None:
    first = registry.publish(cross_encoder(tmp_path, 1))
    registry.publish(cross_encoder(tmp_path, 2))
    registry.promote(first.ref)
    await models.refresh()
    state = first.path.parent / "serving.json"
    before = state.read_bytes()
    state.write_text("{")
    await models.refresh()
    assert scored(models) == first.ref
    (problem,) = [status for status in models.statuses if status.state is State.REFUSED]
    assert "serving.json" in problem.reason
    state.write_bytes(before)
    await models.refresh()
    assert all(status.state is not State.REFUSED for status in models.statuses)


async def test_after_a_restart_nothing_serves_of_a_name_whose_serving_file_is_damaged(
    registry: Registry, models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = registry.publish(cross_encoder(tmp_path, 1))
    other = registry.publish(cross_encoder(tmp_path, 1, name="other")).ref
    registry.publish(cross_encoder(tmp_path, 2), candidate=True)  # has shown nothing
    registry.promote(first.ref)
    (first.path.parent / "serving.json").write_text("{")
    await models.refresh()
    await models.refresh()
    assert models.serving.current == {"other": other}
    assert set(models.serving.loaded) == {other}
    (problem,) = [status for status in models.statuses if status.state is State.REFUSED]
    assert problem.ref == "tiny-cross-encoder@serving.json"
    assert "no bundle of tiny-cross-encoder serves" in problem.reason
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert said.__dict__["reason"] == problem.reason
    registry.promote(first.ref)
    await models.refresh()
    assert models.serving.current == {"other": other, "tiny-cross-encoder": first.ref}
    assert all(status.state is not State.REFUSED for status in models.statuses)


DENIED = PermissionError(13, "Permission denied")  # as root no file is unreadable


@pytest.mark.parametrize("error", [DENIED, IsADirectoryError(21, "Is a directory")], ids=repr)
async def test_a_manifest_that_can_not_be_read_concerns_its_own_bundle_alone(
    registry: Registry,
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
) -> None:
    first, second = (registry.publish(cross_encoder(tmp_path, day)).ref for day in (1, 2))
    bad = registry.publish(cross_encoder(tmp_path, 3, name="other")).ref
    read = registry.manifest

    def unreadable(ref: str) -> Manifest:
        if ref == bad:
            raise error
        return read(ref)

    monkeypatch.setattr(registry, "manifest", unreadable)
    await models.refresh()  # as after a restart: nothing was read before
    assert scored(models) == second
    assert row(models, bad).state is State.REFUSED
    assert str(error) in row(models, bad).reason
    with monkeypatch.context() as readable:
        readable.setattr(registry, "manifest", read)
        registry.promote(first)
    await models.refresh()
    assert scored(models) == first
    monkeypatch.setattr(registry, "manifest", read)
    await models.refresh()
    assert models.serving.cross_encoder("other")[0].ref == bad


async def test_a_serving_file_that_can_not_be_read_changes_nothing_of_its_name_alone(
    registry: Registry, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = (registry.publish(cross_encoder(tmp_path, day)).ref for day in (1, 2))
    pinned, newer = (
        registry.publish(cross_encoder(tmp_path, day, name="other")).ref for day in (3, 4)
    )
    registry.promote(pinned)
    await models.refresh()
    registry.promote(newer)
    registry.promote(first)
    read = registry.in_service

    def unreadable(name: str) -> InService:
        if name == "other":
            raise DENIED
        return read(name)

    monkeypatch.setattr(registry, "in_service", unreadable)
    await models.refresh()
    assert models.serving.current == {"other": pinned, "tiny-cross-encoder": first}
    assert "denied" in row(models, "other@serving.json").reason
    monkeypatch.setattr(registry, "in_service", read)
    await models.refresh()
    assert models.serving.current == {"other": newer, "tiny-cross-encoder": first}
    assert all(status.state is not State.REFUSED for status in models.statuses)


async def test_an_outage_while_manifests_are_read_says_nothing_of_a_bundle(
    registry: Registry, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = registry.publish(cross_encoder(tmp_path, 1)).ref
    await models.refresh()
    new = registry.publish(cross_encoder(tmp_path, 2)).ref

    def away(_: str) -> Manifest:
        raise TimeoutError("the network is away")

    with monkeypatch.context() as outage:
        outage.setattr(registry, "manifest", away)
        await models.refresh()
    assert [status.ref for status in models.statuses] == [old]
    await models.refresh()
    assert scored(models) == new


class Remote:
    """A registry in an object store, what follows it, and the downloads that it makes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.cache = folder / "cache"
        self.registry = Registry(f"memory://{folder.name}", cache=self.cache)
        self.models = Models(self.registry, share=ONE_CORE, max_slowdown=1_000, clock=self.clock)
        self.bundle = self.registry.publish(cross_encoder(folder, 1)).ref
        shutil.rmtree(self.cache)
        self.downloads = 0
        # Before or after a download: what goes wrong.
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[Path], None] = lambda _: None
        get = self.registry._fs.get

        def download(source: str, target: str, **options: Any) -> None:
            self.downloads += 1
            self.before()
            get(source, target, **options)
            self.after(Path(target))

        monkeypatch.setattr(self.registry._fs, "get", download)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    made = Remote(tmp_path, monkeypatch)
    yield made
    made.models.close()


class PayloadError(Exception):
    """As of aiohttp: no OSError, and no error of ours."""


@pytest.mark.parametrize(
    "error", [PayloadError("it ended early"), OSError(28, "No space left on device"), None]
)
async def test_a_download_that_fails_is_tried_again_after_pauses_that_double(
    remote: Remote, caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    models, states = remote.models, set()

    def fails() -> None:
        states.update(status.state for status in models.statuses)
        if error:
            raise error

    def is_cut_short(folder: Path) -> None:
        model = next(folder.rglob(MODEL))
        model.write_bytes(model.read_bytes()[:1_000])

    remote.before, remote.after = fails, is_cut_short
    times = []
    while remote.clock.now < 2_000.0:
        before = remote.downloads
        await models.refresh()
        if remote.downloads > before:
            times.append(remote.clock.now - 1_000.0)
        assert row(models, remote.bundle).state is State.REFUSED
        assert (str(error) if error else "1000 of") in row(models, remote.bundle).reason
        remote.clock.now += 5.0
    assert times == [0, 5, 15, 35, 75, 155, 315, 615, 915]
    # At the first try it is loading; later it says what the matter is, while it is tried too.
    assert states == {State.LOADING, State.REFUSED}
    assert len([line for line in caplog.records if line.levelname == "ERROR"]) == 1
    remote.before, remote.after = lambda: None, lambda _: None
    remote.clock.now += 300.0
    await models.refresh()
    assert scored(models) == remote.bundle
    assert row(models, remote.bundle).state is State.SERVING


async def test_a_bundle_that_is_damaged_in_its_store_is_downloaded_once(remote: Remote) -> None:
    model = f"{remote.registry._folder(remote.bundle)}/{MODEL}"
    whole = remote.registry._fs.cat_file(model)
    remote.registry._fs.pipe_file(model, whole[:1_000])
    for _ in range(5):
        await remote.models.refresh()
        remote.clock.now += 600.0
    assert "damaged" in row(remote.models, remote.bundle).reason
    assert remote.downloads == 1
    remote.registry._fs.pipe_file(model, whole)
    await remote.models.refresh()
    assert scored(remote.models) == remote.bundle


async def test_other_bundles_are_followed_while_one_can_not_be_read(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await remote.models.refresh()
    one = remote.registry.publish(cross_encoder(tmp_path, 2, name="a")).ref
    other = remote.registry.publish(cross_encoder(tmp_path, 3, name="b")).ref
    read = remote.registry.fingerprint

    def away(ref: str) -> str:
        if ref == one:
            raise PayloadError("it ended early")
        return read(ref)

    monkeypatch.setattr(remote.registry, "fingerprint", away)
    await remote.models.refresh()
    assert remote.models.serving.cross_encoder("b")[0].ref == other


async def test_copies_of_what_is_neither_published_nor_loaded_are_deleted(
    remote: Remote, tmp_path: Path
) -> None:
    registry, models = remote.registry, remote.models
    waiting = registry.publish(cross_encoder(tmp_path, 2), candidate=True).ref
    await models.refresh()
    registry._fs.rm(registry._folder(remote.bundle), recursive=True)
    copies = {path.name: path for path in remote.cache.glob("*/*")}

    async def looked() -> set[str]:
        for path in copies.values():
            if path.exists():
                os.utime(path, (1.0, 1.0))
        remote.clock.now += 3_600.0
        await models.refresh()
        return {path.name for path in remote.cache.glob("*/*")}

    loaded, published = (ref.partition("@")[2] for ref in (remote.bundle, waiting))
    assert await looked() == {loaded, published}
    models.serving = replace(models.serving, loaded={}, current={})
    assert await looked() == {published}
