"""The indexes behind one name: NAME is an alias, NAME-<UTC time> the index that it stands for.

A new generation is filled out of sight; the alias moves to it in one step, when it is complete.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NeuralrankError, NotFound, Unavailable

__all__ = [
    "READ_ONLY",
    "Generation",
    "Switched",
    "adopt",
    "alias_of",
    "check_name",
    "create",
    "digest",
    "find_unfinished",
    "free_name",
    "noted",
    "one_index",
    "put_notes",
]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,199}")
_GENERATION: Final = re.compile(r"(.+)-\d{14}-\d{2}")
# In `_meta.neuralrank.state`: not (yet) complete, and complete.
_BUILDING: Final = "building"
_COMPLETE: Final = "complete"
# Also there: an index refuses writes while another is made of it
# (`neuralrank.opensearch.succession`).
READ_ONLY: Final = "read_only"
_FINAL_PIPELINE: Final = "final_pipeline"
# Settings that teams set on the index that serves; the next one has them too.
_HANDED_ON: Final = ("index.search.default_pipeline",)


@dataclass(frozen=True, slots=True)
class Switched:
    """What followed when an alias had moved."""

    deleted: tuple[str, ...]  # earlier generations
    warnings: tuple[str, ...]  # what could not be done, and what to do about it


@dataclass(frozen=True, slots=True)
class Generation:
    """An index that is being filled."""

    alias: str
    index: str
    # `_meta.neuralrank` of its mapping.
    meta: Mapping[str, Any]
    # The settings that hold once it is filled.
    final_settings: Mapping[str, Any]

    def finish(
        self,
        client: OpenSearch,
        expected: int,
        keep: int,
        replaces: str | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Switched:
        """Makes it searchable, checks it and moves the alias to it. The default pipeline of the
        index before it comes along, and so do that index's other aliases, with filter and routing.

        Args:
            expected: how many documents it must hold.
            keep: how many earlier generations stay, for going back.
            replaces: the index that its documents are from; None: they are from elsewhere.
            notes: what was found while it was filled, for `_meta.neuralrank`.

        Raises:
            NotFound: it was deleted meanwhile, or the alias stands for another than `replaces`.
            Unavailable: it does not hold what it should, or an index has taken the alias's name.
                Either way the alias has not moved.
        """
        if _generations(client, self.alias).get(self.index, {}).get("state") != _BUILDING:
            # A write to a deleted index makes OpenSearch create it again, without our mapping.
            raise NotFound(
                f"Index {self.index} was deleted while it was being filled. Index again."
            )
        client.indices.put_settings(index=self.index, body={"index": dict(self.final_settings)})
        client.indices.refresh(index=self.index)
        found = int(client.count(index=self.index)["count"])
        if found != expected:
            raise Unavailable(
                f"Index {self.index} holds {found} documents instead of {expected}; something else "
                f"wrote to it or deleted it. {self.alias!r} was left as it was; index again."
            )
        before = _serving(client, self.alias)
        if replaces is not None and list(before) != [replaces]:
            # Whoever moved it has newer documents than those that were copied.
            raise NotFound(
                f"{self.alias!r} was moved meanwhile: it stands for "
                f"{', '.join(before) or 'nothing'}, and {self.index} was made from {replaces}. "
                "Do it again."
            )
        if handed_on := {
            name: value
            for index in sorted(before)
            for name, value in before[index]["settings"].items()
            if name in _HANDED_ON
        }:
            client.indices.put_settings(index=self.index, body=handed_on)
        if _is_index(client, self.alias):
            # OpenSearch makes one when an application writes to a name that is not there yet.
            raise Unavailable(
                f"An index of the name {self.alias!r} was made meanwhile, so that {self.index} "
                f"can't be reached by it. See what wrote there, and delete the index {self.alias!r}"
            )
        client.indices.update_aliases(body={"actions": self._moves(before)})
        # From here on it serves: whatever else fails must not look as if it did not.
        warnings: list[str] = []
        meta = {**self.meta, **(notes or {}), "state": _COMPLETE, "documents": expected}
        try:
            put_notes(client, self.index, meta)
        except NeuralrankError as error:
            warnings.append(f"could not note in {self.index} that it is complete: {error}")
        deleted = self._delete_older(client, keep, before, warnings)
        return Switched(tuple(deleted), tuple(warnings))

    def serving(self, client: OpenSearch) -> list[str]:
        """The indexes that the alias stands for."""
        return sorted(_serving(client, self.alias))

    def discard(self, client: OpenSearch) -> None:
        """Deletes it, unless the alias stands for it: searches would find nothing any more."""
        if self.index not in self.serving(client):
            client.indices.delete(index=self.index, params={"ignore_unavailable": "true"})

    def _moves(self, before: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What takes the alias to it from the indexes before, all in one step, with its filter,
        routing and hiding."""
        moves: list[dict[str, Any]] = []
        for index, body in before.items():
            for name, options in body["aliases"].items():
                if name == self.alias:
                    moves.append({"remove": {"index": index, "alias": name}})
                # Of an index that was made otherwise the other aliases are its own.
                elif alias_of(index, [self.alias]):
                    moves.append({"remove": {"index": index, "alias": name}})
                    moves.append({"add": {"index": self.index, "alias": name, **options}})
        options = {**_alias_options(self.alias, before), "is_write_index": True}
        moves.append({"add": {**options, "index": self.index, "alias": self.alias}})
        return moves

    def _delete_older(
        self, client: OpenSearch, keep: int, before: Iterable[str], warnings: list[str]
    ) -> list[str]:
        """Deletes earlier generations that `indexer` made: all but what served before and the
        newest complete ones, `keep` together, and those that were never finished. One that any
        alias stands for is in use, and stays.

        Args:
            warnings: gets what could not be deleted, such as what a snapshot is being made of.
        """
        try:
            found = _generations(client, self.alias)
            of_aliases = client.indices.get_alias(index=f"{self.alias}-*")
        except NeuralrankError as error:
            warnings.append(f"could not look for earlier indexes to delete: {error}")
            return []
        earlier = {
            index: meta
            for index, meta in found.items()
            if index < self.index and not of_aliases.get(index, {}).get("aliases")
        }
        # What served before comes last, to be kept first: of a run that was killed there may be a
        # newer clone, which has never served.
        complete = sorted(
            (
                index
                for index, meta in earlier.items()
                if meta.get("state") == _COMPLETE or index in before
            ),
            key=lambda index: (index in before, index),
        )
        kept = complete[-keep:] if keep else []
        deleted = []
        for index in sorted(earlier.keys() - set(kept)):
            try:
                client.indices.delete(index=index, params={"ignore_unavailable": "true"})
                deleted.append(index)
            except NeuralrankError as error:
                warnings.append(
                    f"could not delete {index}: {error} Delete it by hand, or the next run does."
                )
        return deleted


def noted(mappings: Mapping[str, Any]) -> dict[str, Any]:
    """What we noted of an index: `_meta.neuralrank` of its mappings, empty where it isn't ours."""
    found: dict[str, Any] = mappings.get("_meta", {}).get("neuralrank", {})
    return found


def put_notes(client: OpenSearch, index: str, notes: Mapping[str, Any]) -> None:
    """Writes `_meta.neuralrank`. OpenSearch replaces `_meta` as a whole; what a team has beside it
    stays."""
    mappings = client.indices.get_mapping(index=index)[index]["mappings"]
    meta = {**mappings.get("_meta", {}), "neuralrank": dict(notes)}
    client.indices.put_mapping(index=index, body={"_meta": meta})


def one_index(client: OpenSearch, name: str) -> tuple[str, dict[str, Any]]:
    """The index of a name, or the only one behind an alias: its own name, and what OpenSearch says
    of it: aliases, mappings and settings.

    Raises:
        NotFound: there is no such index.
        InvalidInput: the name stands for several.
    """
    try:
        found = client.indices.get(index=name)
    except NotFound as error:
        raise NotFound(
            f"There is no index {name!r}: {error} Name one that there is, or make it with "
            f"`neuralrank index CATALOGUE --index {name}`."
        ) from error
    if len(found) != 1:
        raise InvalidInput(
            f"{name!r} stands for {len(found)} indexes ({', '.join(sorted(found)) or 'none'}). "
            "Name one of them."
        )
    ((index, body),) = found.items()
    return index, body


def check_name(client: OpenSearch, name: str) -> None:
    """
    Raises:
        InvalidInput: `name` can't be an alias, or an index of that very name exists; or it stands
            for several indexes with other options each.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"--index {name!r} can't be a name; allowed are lower-case letters, digits, '-', '_' "
            "and '.', beginning with a letter or digit, at most 200."
        )
    if _is_index(client, name):
        raise InvalidInput(
            f"{name!r} is an index, not an alias, so it can't be switched to a new one without a "
            f"gap. Choose another --index; or, if it is not needed, delete the index {name!r}."
        )
    _alias_options(name, _serving(client, name))


def _is_index(client: OpenSearch, name: str) -> bool:
    """Whether an index has that very name."""
    return bool(client.indices.exists(index=name) and not client.indices.exists_alias(name=name))


def digest(body: Mapping[str, Any]) -> str:
    """Tells whether settings and mappings are still the same."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def create(
    client: OpenSearch,
    name: str,
    body: Mapping[str, Any],
    meta: Mapping[str, Any],
    *,
    ingested: bool = False,
) -> Generation:
    """A new, empty generation.

    Args:
        body: settings and mappings, as for index creation; `_meta.neuralrank` is extended.
        meta: what else `_meta.neuralrank` says.
        ingested: whether it is filled with documents of an index: what its ingest pipelines make of
            a document, they have made of these already.
    """
    mappings = dict(body["mappings"])
    notes = {**noted(mappings), **meta, "state": _BUILDING}
    mappings["_meta"] = {**mappings.get("_meta", {}), "neuralrank": notes}
    settings = dict(body.get("settings", {}))
    final = _final_settings(settings, ingested)
    # No refresh and no replica while filling: both would do their work many times over.
    settings["index"] = {
        **settings.get("index", {}),
        "refresh_interval": "-1",
        "auto_expand_replicas": "false",
        "number_of_replicas": 0,
        # The default one a request can turn off, this one it can't.
        **({_FINAL_PIPELINE: "_none"} if ingested else {}),
    }
    index = free_name(client, name)
    client.indices.create(index=index, body={"settings": settings, "mappings": mappings})
    return Generation(name, index, notes, final)


def find_unfinished(
    client: OpenSearch,
    name: str,
    body: Mapping[str, Any],
    meta: Mapping[str, Any],
    *,
    ingested: bool = False,
) -> Generation:
    """The newest generation that was begun with the same `meta` and not finished. Arguments are
    those of `create`.

    Raises:
        NotFound: there is none.
        InvalidInput: there is one, but from another catalogue or encoder.
    """
    unfinished = {
        index: found
        for index, found in _generations(client, name).items()
        if found.get("state") == _BUILDING
    }
    if not unfinished:
        raise NotFound(f"No unfinished index of {name!r} is there to resume; leave out --resume.")
    index = max(unfinished)
    notes = unfinished[index]
    wanted = {**noted(body["mappings"]), **meta}
    for key, value in wanted.items():
        if notes.get(key) != value:
            raise InvalidInput(
                f"{index} can't be resumed: its {key} is {notes.get(key)!r}, and now it is "
                f"{value!r}. Leave out --resume to begin anew."
            )
    return Generation(name, index, notes, _final_settings(body.get("settings", {}), ingested))


def _final_settings(settings: Mapping[str, Any], ingested: bool = False) -> dict[str, Any]:
    """What is set back after filling; null means OpenSearch's default."""
    wanted = settings.get("index", {})
    expand = wanted.get("auto_expand_replicas")
    final = {"refresh_interval": wanted.get("refresh_interval"), "auto_expand_replicas": expand}
    # Where it follows the nodes, OpenSearch sets the number itself.
    if expand in (None, False, "false"):
        final["number_of_replicas"] = wanted.get("number_of_replicas")
    if ingested:
        final[_FINAL_PIPELINE] = wanted.get(_FINAL_PIPELINE)
    return final


def adopt(client: OpenSearch, name: str, index: str, settings: Mapping[str, Any]) -> Generation:
    """A generation that was made otherwise than by `create`, such as a clone: marked as unfinished.

    Args:
        settings: of its body.
    """
    found = client.indices.get_mapping(index=index)[index]["mappings"]
    notes = {**noted(found), "state": _BUILDING}
    notes.pop(READ_ONLY, None)  # of the index that it was cloned from
    put_notes(client, index, notes)
    return Generation(name, index, notes, _final_settings(settings))


def alias_of(index: str, aliases: Iterable[str]) -> str | None:
    """The alias that an index is a generation of; None if it is none of any."""
    stem = _GENERATION.fullmatch(index)
    return stem[1] if stem and stem[1] in set(aliases) else None


def free_name(client: OpenSearch, name: str) -> str:
    """The name of a generation of `name` that is made now."""
    stem = f"{name}-{datetime.now(UTC):%Y%m%d%H%M%S}"
    for serial in range(100):
        index = f"{stem}-{serial:02d}"
        if not client.indices.exists(index=index):
            return index
    raise InvalidInput(f"There are 100 indexes {stem}-* already. Wait a second.")


def _alias_options(alias: str, serving: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Filter, routing and hiding of an alias, for the one index that it will stand for.

    Raises:
        InvalidInput: it has others for each of its indexes. Whichever was taken, searches could
            find what a filter hides.
    """
    found = {index: dict(body["aliases"].get(alias, {})) for index, body in serving.items()}
    for options in found.values():
        options.pop("is_write_index", None)
    first, *others = found.values() or ({},)
    if any(options != first for options in others):
        raise InvalidInput(
            f"{alias!r} stands for several indexes with other options each ({found}), and for one "
            "index there is one filter and routing. Give it the same for all with POST _aliases, "
            "or take it off all but one."
        )
    return first


def _serving(client: OpenSearch, alias: str) -> dict[str, dict[str, Any]]:
    """The indexes behind an alias, and what OpenSearch says of each, settings flat."""
    try:
        found: dict[str, dict[str, Any]] = client.indices.get(
            index=alias, params={"flat_settings": "true"}
        )
    except NotFound:
        return {}
    return found


def _generations(client: OpenSearch, name: str) -> dict[str, dict[str, Any]]:
    """The indexes that `create` made for a name, and their `_meta.neuralrank`."""
    found = client.indices.get_mapping(
        index=f"{name}-*", params={"filter_path": "*.mappings._meta.neuralrank"}
    )
    return {
        index: mapping["mappings"]["_meta"]["neuralrank"]
        for index, mapping in found.items()
        if (stem := _GENERATION.fullmatch(index)) and stem[1] == name
    }
