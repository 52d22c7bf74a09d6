import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from neuralrank.bundles.bundle import MANIFEST, MODEL, Bundle, write_bundle
from neuralrank.bundles.in_service import NONE
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidBundle, InvalidInput, NotFound, Unavailable, Unsupported
from sidecar.models.plan import Reader
from tests.unit.answering import answering
from tests.unit.conftest import tiny_bundle


def test_a_published_bundle_is_found_by_name_and_by_hash(
    tmp_path: Path, encoder_bundle: Bundle
) -> None:
    registry = Registry(str(tmp_path / "registry"))
    assert registry.refs() == []
    published = registry.publish(encoder_bundle)
    assert registry.refs() == [encoder_bundle.ref]
    assert registry.get("tiny-encoder") == registry.get(encoder_bundle.ref) == published
    assert published.path != encoder_bundle.path
    assert registry.verified() == ([registry.get(encoder_bundle.ref)], [])


def test_publishing_twice_changes_nothing(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    first = registry.publish(encoder_bundle)
    before = first.model.stat().st_mtime_ns
    assert registry.publish(encoder_bundle) == first
    assert first.model.stat().st_mtime_ns == before


def test_a_name_gives_the_newest(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    old = registry.publish(encoder_bundle)
    fields = encoder_bundle.manifest.model_dump(exclude={"files", "created"})
    new = registry.publish(write_bundle(encoder_bundle.path, {**fields, "query_prefix": "q: "}))
    assert registry.get("tiny-encoder").ref == new.ref != old.ref
    assert registry.get(old.ref).ref == old.ref


def test_an_unknown_bundle_lists_what_there_is(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    with pytest.raises(NotFound, match=r"neuralrank models add"):
        registry.get("bert")
    registry.publish(encoder_bundle)
    with pytest.raises(NotFound, match=f"There is: {encoder_bundle.ref}"):
        registry.get("bert")


def test_a_damaged_bundle_is_not_given_out(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    registry.publish(encoder_bundle).tokenizer.write_text("{}")
    with pytest.raises(InvalidBundle, match="damaged"):
        registry.get("tiny-encoder")


def test_half_a_publication_is_invisible(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    registry.publish(encoder_bundle)
    leftover = tmp_path / "registry/tiny-encoder/.0123"
    leftover.mkdir()
    (leftover / "manifest.json").write_text("{}")
    assert registry.refs() == [encoder_bundle.ref]


@pytest.mark.parametrize("gone", [False, True])
def test_a_publication_to_a_store_that_is_interrupted_shows_nothing_and_can_be_repeated(
    tmp_path: Path, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    registry = Registry(f"memory://{tmp_path.name}", cache=tmp_path / "cache")
    store = type(registry._fs)

    def down(*_: Any, **__: Any) -> None:
        raise ConnectionError("the network went")

    with monkeypatch.context() as patch:
        for name in ("put_file", "cp_file"):

            def write(
                self: Any, one: str, other: str, *, done: Any = getattr(store, name), **more: Any
            ) -> None:
                if other.endswith(f"/{encoder_bundle.hash}/{MODEL}"):
                    if gone:
                        patch.setattr(store, "rm", down)
                    down()
                done(self, one, other, **more)

            patch.setattr(store, name, write)
        with pytest.raises(ConnectionError, match="the network went"):
            registry.publish(encoder_bundle)
        assert registry.refs() == []
    assert gone or registry._fs.find(registry._root) == []
    assert registry.publish(encoder_bundle).ref == encoder_bundle.ref
    assert registry.refs() == [encoder_bundle.ref]


def test_a_store_sees_the_manifest_last(
    tmp_path: Path, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(f"memory://{tmp_path.name}", cache=tmp_path / "cache")
    seen: list[bool] = []
    put = type(registry._fs).put_file

    def write(self: Any, one: str, other: str, **more: Any) -> None:
        seen.append(registry.refs() != [])
        put(self, one, other, **more)
        if not other.endswith("/manifest.json"):
            seen.append(registry.refs() != [])

    monkeypatch.setattr(type(registry._fs), "put_file", write)
    registry.publish(encoder_bundle)
    assert seen
    assert not any(seen)
    # Over a half bundle too.
    registry._fs.rm(f"{registry._folder(encoder_bundle.ref)}/{MODEL}")
    seen.clear()
    registry.publish(encoder_bundle)
    assert seen
    assert not any(seen)


@pytest.mark.parametrize("harm", ["missing", "short", "one bit", "manifest"])
@pytest.mark.parametrize("candidate", [False, True])
def test_publishing_again_mends_a_damaged_bundle(
    registry: Registry, tmp_path: Path, harm: str, candidate: bool
) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", "encoder")
    registry.publish(bundle)
    other = registry.publish(tiny_bundle(tmp_path / "2", "encoder", parent="2"), candidate=True)
    state = registry.in_service("tiny-encoder")
    model = f"{registry._folder(bundle.ref)}/{MODEL}"
    if harm == "missing":
        registry._fs.rm_file(model)
    elif harm == "short":
        registry._fs.pipe_file(model, b"half")
    elif harm == "one bit":
        content = bytearray(registry._fs.cat_file(model))
        content[len(content) // 2] ^= 1
        registry._fs.pipe_file(model, bytes(content))
    else:
        registry._fs.pipe_file(f"{registry._folder(bundle.ref)}/{MANIFEST}", b"{}")
    registry.publish(bundle, candidate=candidate)
    elsewhere = Registry(registry.url, cache=tmp_path / "elsewhere")
    assert elsewhere.get(bundle.ref).hash == bundle.hash
    # It is no candidate for that.
    assert registry.in_service("tiny-encoder") == state
    assert set(registry.candidates()) == {other.ref}


def test_what_is_opened_is_in_use_and_what_is_published_is_never_tidied_away(
    registry: Registry, tmp_path: Path
) -> None:
    published = registry.publish(tiny_bundle(tmp_path / "bundle", "encoder"))
    os.utime(published.path, (1.0, 1.0))
    registry.get(published.ref)
    registry.tidy([])
    assert published.path.exists()
    os.utime(published.path, (1.0, 1.0))
    registry.tidy([])
    # A copy goes, the registry itself does not.
    assert published.path.exists() is registry._local
    assert registry.get(published.ref).hash == published.hash


def test_a_remote_registry_is_cached_locally(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry("memory://models", cache=tmp_path / "cache")
    published = registry.publish(encoder_bundle)
    assert published.path.is_relative_to(tmp_path / "cache")
    assert registry.get(encoder_bundle.ref).manifest == encoder_bundle.manifest


@pytest.fixture(params=["local", "remote"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """Of either kind; the remote one is fsspec's in-memory file system."""
    if request.param == "local":
        return Registry(str(tmp_path / "registry"))
    return Registry(f"memory://{tmp_path.name}", cache=tmp_path / "cache")


def three(registry: Registry, folder: Path, kind: str = "cross_encoder") -> list[str]:
    """Three bundles of one name, oldest first."""
    return [
        registry.publish(
            tiny_bundle(
                folder / str(day), kind, created=f"2026-01-0{day}T00:00:00Z", parent=str(day)
            )
        ).ref
        for day in (1, 2, 3)
    ]


def test_promotion_and_rollback_last_and_are_seen_by_another_reader(
    registry: Registry, tmp_path: Path
) -> None:
    first, second, third = three(registry, tmp_path)
    name = "tiny-cross-encoder"
    assert registry.get(name).ref == third
    assert registry.promote(first[:-6]) == first
    other = Registry(registry.url, cache=tmp_path / "other")
    assert other.get(name).ref == first
    assert other.rollback(name) == third
    assert registry.get(name).ref == third
    assert registry.rollback(name) == second
    with pytest.raises(NotFound, match="nothing to go back to"):
        registry.rollback(name)
    assert registry.promote(second) == second
    assert registry.promote(name) == third  # follows the newest again
    assert registry.in_service(name).serving == ""


def test_a_candidate_waits_for_its_promotion(registry: Registry, tmp_path: Path) -> None:
    first = registry.publish(tiny_bundle(tmp_path / "1", "encoder", parent="1"), candidate=True)
    assert registry.get("tiny-encoder").ref == first.ref
    second = registry.publish(tiny_bundle(tmp_path / "2", "encoder", parent="2"), candidate=True)
    assert registry.get("tiny-encoder").ref == first.ref
    registry.promote(second.ref)
    assert registry.get("tiny-encoder").ref == second.ref


def test_a_candidate_that_waits_is_none_of_the_newest(registry: Registry, tmp_path: Path) -> None:
    def published(number: int, *, candidate: bool = False) -> str:
        made = {"created": f"2026-01-0{number}T00:00:00Z", "parent": str(number)}
        bundle = tiny_bundle(tmp_path / str(number), "encoder", **made)
        return registry.publish(bundle, candidate=candidate).ref

    name = "tiny-encoder"
    first, waiting, added = published(1), published(2, candidate=True), published(3)
    assert registry.promote(name) == added
    order = Reader(registry).look().orders[name]  # a sidecar's: what it loads if one is damaged
    assert order == [added, first]
    assert registry.rollback(name) == first
    assert registry.promote(name) == added
    registry._fs.pipe_file(f"{registry._root}/{name}/serving.json", b"{")
    assert registry.promote(name) == added
    registry.remove(waiting)
    again = published(2)  # now by a person
    assert Reader(registry).look().orders[name] == [added, again, first]
    registry.remove(again)
    published(2, candidate=True)
    assert registry.promote(name) == added
    for gone in (first, added):  # by other means than `models remove`
        registry._fs.rm(registry._folder(gone), recursive=True)
    published(4, candidate=True)
    with pytest.raises(NotFound, match=f"Nothing serves under.*{waiting}"):
        registry.resolve(name)


def test_a_new_name_is_no_way_round_the_gate(registry: Registry, tmp_path: Path) -> None:
    served = registry.publish(tiny_bundle(tmp_path / "1", "cross_encoder", name="small"))
    assert registry.answering(served.manifest) == served.ref
    new = registry.publish(
        tiny_bundle(tmp_path / "2", "cross_encoder", name="shop"), candidate=True
    )
    later = tiny_bundle(tmp_path / "3", "cross_encoder", name="shop", parent="2")
    later = registry.publish(later, candidate=True)
    assert set(registry.candidates()) == {new.ref, later.ref}
    assert list(registry.serving("cross_encoder")) == [served.ref]
    assert registry.answering(new.manifest) == served.ref
    assert not registry.serves(new.ref)
    with pytest.raises(NotFound, match=r"Nothing serves under 'shop'.*models promote"):
        registry.resolve("shop")
    with pytest.raises(NotFound, match="Nothing serves under"):
        registry.rollback("shop")
    assert registry.get(new.ref) == new
    registry.promote(new.ref)
    assert registry.resolve("shop") == new.ref
    assert registry.answering(later.manifest) == new.ref
    assert registry.resolve("small") == served.ref
    registry.promote(later.ref)
    assert registry.rollback("shop") == new.ref
    assert registry.rollback("shop") == ""
    assert registry.answering(new.manifest) == served.ref


@pytest.mark.parametrize(
    ("served", "new"),
    [
        ({"kind": "encoder"}, {"kind": "cross_encoder"}),
        (
            {"kind": "cross_encoder", "languages": ["en"]},
            {"kind": "cross_encoder", "languages": ["zh"]},
        ),
    ],
)
def test_what_answers_for_something_else_keeps_no_new_name_out(
    registry: Registry, tmp_path: Path, served: dict[str, Any], new: dict[str, Any]
) -> None:
    registry.publish(tiny_bundle(tmp_path / "1", name="small", **served))
    first = registry.publish(tiny_bundle(tmp_path / "2", name="shop", **new), candidate=True)
    assert registry.resolve("shop") == first.ref
    assert registry.candidates() == {}


def test_what_a_person_adds_serves_at_once_among_candidates(
    registry: Registry, tmp_path: Path
) -> None:
    registry.publish(tiny_bundle(tmp_path / "1", "cross_encoder", name="small"))
    waiting = tiny_bundle(tmp_path / "2", "cross_encoder", name="shop")
    waiting = registry.publish(waiting, candidate=True)
    added = tiny_bundle(tmp_path / "3", "cross_encoder", name="shop", parent="x")
    added = registry.publish(added)
    assert registry.resolve("shop") == added.ref
    registry.remove(waiting.ref)
    registry.publish(waiting_again(tmp_path), candidate=True)
    assert registry.resolve("shop") == added.ref


def waiting_again(folder: Path) -> Bundle:
    return tiny_bundle(folder / "4", "cross_encoder", name="shop", parent="y")


def test_a_name_whose_candidates_are_gone_begins_anew(registry: Registry, tmp_path: Path) -> None:
    registry.publish(tiny_bundle(tmp_path / "1", "cross_encoder", name="small"))
    shop = tiny_bundle(tmp_path / "2", "cross_encoder", name="shop")
    registry.remove(registry.publish(shop, candidate=True).ref)
    registry._fs.rm(f"{registry._root}/small", recursive=True)
    assert registry.resolve(registry.publish(shop, candidate=True).manifest.name) == shop.ref


def test_trials_are_set_and_ended(registry: Registry, tmp_path: Path) -> None:
    _, second, third = three(registry, tmp_path)
    name = "tiny-cross-encoder"
    registry.try_out(third, "canary", 5.0)
    assert registry.get(name).ref == second
    state = registry.in_service(name)
    assert state.canary is not None
    assert (state.canary.hash, state.canary.percent) == (third.partition("@")[2], 5.0)
    with pytest.raises(InvalidInput, match="in service or tried"):
        registry.remove(third)
    registry.try_out(third, "canary", 0)
    assert registry.in_service(name).canary is None
    encoders = three(registry, tmp_path / "e", "encoder")
    with pytest.raises(InvalidInput, match="only a cross_encoder can be tried"):
        registry.try_out(encoders[0], "shadow", 100.0)


def test_what_serves_is_not_removed_and_what_is_removed_is_gone(
    registry: Registry, tmp_path: Path
) -> None:
    first, second, third = three(registry, tmp_path)
    with pytest.raises(InvalidInput, match="Promote another"):
        registry.remove(third)
    with pytest.raises(InvalidInput, match="Give NAME@HASH"):
        registry.remove("tiny-cross-encoder")
    registry.promote(first)
    registry.promote(third)
    assert registry.remove(first) == first
    assert first not in registry.refs()
    assert registry.in_service("tiny-cross-encoder").history == tuple(
        ref.partition("@")[2] for ref in (second, third)
    )


def test_a_hash_may_be_cut_short_but_not_to_several(
    tmp_path: Path, cross_encoder_bundle: Bundle
) -> None:
    registry = Registry(str(tmp_path / "registry"))
    bundle = registry.publish(cross_encoder_bundle)
    assert registry.resolve(bundle.ref[:-8]) == bundle.ref
    twin = bundle.path.parent / (bundle.hash[:6] + "000000")
    twin.mkdir()
    (twin / "manifest.json").write_text("{}")
    with pytest.raises(InvalidInput, match="Give more of its hash"):
        registry.resolve(f"tiny-cross-encoder@{bundle.hash[:6]}")


def test_a_damaged_copy_of_a_remote_bundle_is_fetched_anew(
    tmp_path: Path, encoder_bundle: Bundle
) -> None:
    registry = Registry(f"memory://{tmp_path.name}", cache=tmp_path / "cache")
    bundle = registry.publish(encoder_bundle)
    bundle.model.write_bytes(b"half")
    assert registry.get(bundle.ref).hash == bundle.hash


def test_a_copy_of_a_remote_bundle_that_ends_too_early_is_said_and_not_kept(
    tmp_path: Path, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path.name}"
    Registry(url, cache=tmp_path / "cache").publish(encoder_bundle)
    registry = Registry(url, cache=tmp_path / "elsewhere")
    whole = type(registry._fs).get

    def cut(self: Any, source: str, target: str, **more: Any) -> None:
        whole(self, source, target, **more)
        (model,) = Path(target).rglob(MODEL)
        model.write_bytes(model.read_bytes()[:-1])

    with monkeypatch.context() as patch:
        patch.setattr(type(registry._fs), "get", cut)
        with pytest.raises(Unavailable, match="bytes came"):
            registry.get(encoder_bundle.ref)
    assert registry.get(encoder_bundle.ref).ref == encoder_bundle.ref


def test_a_fingerprint_changes_with_the_files(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    bundle = registry.publish(encoder_bundle)
    before = registry.fingerprint(bundle.ref)
    assert registry.fingerprint(bundle.ref) == before
    (bundle.path / MODEL).write_bytes(b"x")
    assert registry.fingerprint(bundle.ref) != before


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("nope://bucket/models", InvalidInput, "Protocol not known: nope.*such as s3://"),
        ("sftp://me:secret@host/models", Unsupported, "sftp://host/models.*Install"),
    ],
)
def test_a_url_that_nothing_reads_is_said(
    monkeypatch: pytest.MonkeyPatch, url: str, error: type[Exception], words: str
) -> None:
    monkeypatch.setitem(sys.modules, "paramiko", None)
    with pytest.raises(error, match=words) as caught:
        Registry(url)
    assert "secret" not in str(caught.value)


def test_a_password_in_the_registry_s_address_is_in_no_message() -> None:
    registry = Registry("memory://me:secret@somewhere/models")
    with pytest.raises(NotFound, match="in the registry memory://somewhere/models") as caught:
        registry.get("nothing")
    assert "secret" not in str(caught.value)


def test_a_folder_with_an_at_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Registry("models@home/v1").url == "models@home/v1"


def test_a_damaged_file_of_a_web_server_is_named_without_the_password() -> None:
    with answering((200, "{")) as server:
        registry = Registry(f"{server.url.replace('://', '://me:secret@')}/models")
        with pytest.raises(InvalidInput, match=r"/models/tiny/serving\.json: ") as caught:
            registry.in_service("tiny")
    assert "secret" not in str(caught.value)


def test_a_damaged_state_of_service_is_said(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    bundle = registry.publish(encoder_bundle)
    (bundle.path.parent / "serving.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"serving\.json.*models promote NAME@HASH"):
        registry.get("tiny-encoder")
    assert registry.get(bundle.ref).ref == bundle.ref


@pytest.mark.parametrize("by_hash", [True, False])
def test_a_damaged_state_of_service_is_written_anew_by_a_promotion(
    tmp_path: Path, *, by_hash: bool
) -> None:
    registry = Registry(str(tmp_path / "registry"))
    first, _, third = three(registry, tmp_path)
    name = "tiny-cross-encoder"
    (Path(registry.url) / name / "serving.json").write_text("{")
    assert registry.promote(first if by_hash else name) == (first if by_hash else third)
    assert registry.get(name).ref == (first if by_hash else third)
    if by_hash:  # what served before is not known
        with pytest.raises(NotFound, match="nothing to go back to"):
            registry.rollback(name)


def test_what_serves_of_a_kind_is_one_bundle_of_each_name(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))

    def made(name: str, day: int, kind: str = "encoder", **fields: str) -> Bundle:
        created = f"2026-01-0{day}T00:00:00Z"
        folder = tmp_path / f"{name}{day}"
        return registry.publish(tiny_bundle(folder, kind, name=name, created=created, **fields))

    made("a", 9, "cross_encoder")
    assert registry.serving("encoder") == {}
    first, other = made("b", 3), made("z", 1)
    assert registry.serving("encoder") == {
        first.ref: first.manifest,
        other.ref: other.manifest,
    }
    later = made("b", 4, query_prefix="q: ")
    registry.promote(first.ref)
    assert list(registry.serving("encoder")) == [first.ref, other.ref]
    registry.promote(later.ref)
    assert list(registry.serving("encoder")) == [later.ref, other.ref]


@pytest.mark.parametrize("candidate", [False, True])
def test_a_name_has_bundles_of_one_kind(tmp_path: Path, candidate: bool) -> None:
    """An encoder of the same name took the cross-encoder out of service, without a word."""
    registry = Registry(str(tmp_path / "registry"))
    served = registry.publish(tiny_bundle(tmp_path / "one", "cross_encoder", name="shop"))
    other = tiny_bundle(tmp_path / "two", "encoder", name="shop")
    with pytest.raises(InvalidInput, match=r"is of kind encoder.*is of kind cross_encoder; one"):
        registry.publish(other, candidate=candidate)
    assert registry.refs() == [served.ref]
    assert list(registry.serving("cross_encoder")) == [served.ref]


def test_of_encoders_the_one_that_knows_most_languages_answers_who_names_none(
    registry: Registry, tmp_path: Path
) -> None:
    for name, languages in (("a", ["zh"]), ("b", ["en", "zh"]), ("c", ["zh"])):
        registry.publish(tiny_bundle(tmp_path / name, "encoder", name=name, languages=languages))
    new = tiny_bundle(tmp_path / "new", "encoder", name="shop", languages=["zh"])
    assert registry.answering(new.manifest) == registry.resolve("b")
    registry.publish(tiny_bundle(tmp_path / "d", "encoder", name="d"))
    assert registry.answering(new.manifest) == registry.resolve("d")


def test_what_another_process_has_published_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be read already, and is the same."""
    bundle = tiny_bundle(tmp_path / "bundle", "encoder")
    other, registry = (Registry(str(tmp_path / "registry")) for _ in range(2))
    folders: list[int] = []
    put = type(registry._fs).put_file

    def meanwhile(fs: object, source: str, target: str, **options: object) -> None:
        monkeypatch.undo()
        folders.append(other.publish(bundle).path.stat().st_ino)
        put(fs, source, target, **options)

    monkeypatch.setattr(type(registry._fs), "put_file", meanwhile)
    found = registry.publish(bundle)
    assert folders == [found.path.stat().st_ino]
    assert registry.refs() == [bundle.ref]


def test_what_serves_is_written_as_sidecars_of_before_read_it(
    registry: Registry, cross_encoder_bundle: Bundle
) -> None:
    """Without what they don't know, as long as it says nothing."""
    bundle = registry.publish(cross_encoder_bundle)
    registry.promote(bundle.ref)
    written = json.loads(
        registry._fs.cat_file(f"{registry._root}/{bundle.manifest.name}/serving.json")
    )
    assert "candidates" not in written
    assert written["serving"] == bundle.hash


def test_a_candidate_that_is_mended_goes_on_waiting(registry: Registry, tmp_path: Path) -> None:
    registry.publish(tiny_bundle(tmp_path / "serving", "encoder", name="other"))
    bundle = tiny_bundle(tmp_path / "bundle", "encoder")
    # Nothing of its name serves: one that was new would.
    waiting = registry.publish(bundle, candidate=True)
    state = registry.in_service("tiny-encoder")
    assert state.serving == NONE
    registry._fs.pipe_file(f"{registry._folder(bundle.ref)}/{MODEL}", b"half")
    registry.publish(bundle)
    assert registry.in_service("tiny-encoder") == state
    assert set(registry.candidates()) == {waiting.ref}
