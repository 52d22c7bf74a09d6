"""From a spec's variants to what each one needs: an index, a search pipeline, a lexical query."""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson
from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput
from neuralrank.opensearch.generation import digest, noted, one_index
from neuralrank.opensearch.packing import VECTOR
from neuralrank.standing import text_fields
from opensearch_config import files
from opensearch_config.fields import mixed_analyzers
from opensearch_config.tuning.analysis import changed_index
from opensearch_config.tuning.located import Located, Place
from opensearch_config.tuning.spec import Spec, Variant

__all__ = ["Planned", "Source", "boosted", "plan"]

# As the plugin: `window`, `k`, and how many neighbours the graph is searched for, for each.
_WINDOW: Final = 100
_K: Final = 100
_OVERSAMPLING: Final = 4
_MOST: Final = 10_000
_BOOST: Final = re.compile(r"(?P<field>[^^]+)(?:\^(?P<boost>[0-9.]+))?")
_RECALL_KEYS: Final = ("vector", "window", "k", "ef_search", "exclusions", "timeout_ms")
_RANK_KEYS: Final = ("fusion", "bundle", "max_reranked", "exclusions", "deadline_ms")


@dataclass(frozen=True, slots=True)
class Source:
    """The index whose documents are searched."""

    name: str  # as the spec has it
    index: str  # the index itself
    uuid: str
    documents: int
    encoder: str  # name@hash; empty: no vectors
    dimensions: int
    properties: Mapping[str, Any]

    @classmethod
    def of(cls, client: OpenSearch, name: str) -> "Source":
        """
        Raises:
            NotFound: there is no such index.
            InvalidInput: the name stands for several.
        """
        index, body = one_index(client, name)
        meta = noted(body["mappings"])
        return cls(
            name=name,
            index=index,
            uuid=str(body["settings"]["index"]["uuid"]),
            documents=int(client.count(index=index)["count"]),
            encoder=str(meta.get("encoder", "")),
            dimensions=int(meta.get("dimensions") or 0),
            properties=body["mappings"].get("properties", {}),
        )


@dataclass(frozen=True, slots=True)
class Planned:
    """What a variant needs."""

    variant: Variant
    # Settings and mappings of its index; "" as key: the source itself does.
    body: Mapping[str, Any]
    key: str
    # None: without ranking.
    pipeline: Mapping[str, Any] | None
    # The lexical query, with the placeholder in it.
    template: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def window(self) -> int:
        return int(self._recall.get("window", _WINDOW)) if self.pipeline else _MOST

    @property
    def has_vectors(self) -> bool:
        """Whether there is a k-NN leg."""
        fields = self.body["mappings"].get("properties", {})
        return self.pipeline is not None and VECTOR in fields and self._recall.get("vector", True)

    @property
    def k(self) -> int:
        """How many neighbours its k-NN leg brings."""
        return int(self._recall.get("k", _K))

    @property
    def explored(self) -> int:
        """How many its k-NN leg searches the graph for, as the plugin does."""
        usual = min(_MOST, _OVERSAMPLING * self.k)
        return max(self.k, int(self._recall.get("ef_search", usual)))

    @property
    def weights(self) -> Mapping[str, float]:
        """What its pipeline says that the parts of a score count; of others it says nothing."""
        found = _processor(self.pipeline or {}, "response_processors", "neural_rank") or {}
        return dict(found.get("weights") or {})

    @property
    def dimensions(self) -> int:
        field = self.body["mappings"].get("properties", {}).get(VECTOR, {})
        return int(field.get("dimension", 0))

    @property
    def _recall(self) -> Mapping[str, Any]:
        return _processor(self.pipeline or {}, "request_processors", "neural_recall") or {}


def plan(spec: Spec, found: Located, source: Source, folder: Path = files.FOLDER) -> list[Planned]:
    """What each variant needs.

    If one needs an index of its own, all get new ones, made in the same way: a fresh index is
    smaller and faster than one that has lived. Variants of the same index share it.

    Args:
        folder: the files to start from, where neither spec nor variant names others.

    Raises:
        InvalidInput: a variant names a field that is not there, or the like; the message names the
            line.
        NotFound: a file is missing.
    """
    base = found.path.parent
    planned = []
    for position, variant in enumerate(spec.variants):
        place: Place = ("variants", position)
        own = variant.folder or spec.folder
        start = (base / own).resolve() if own else folder
        if variant.synonyms_file is not None:
            variant = variant.model_copy(update={"synonyms_file": base / variant.synonyms_file})

        def refuse(at: Place, words: str, place: Place = place) -> InvalidInput:
            return found.refusal((*place, *at), words)

        plain = files.product_index(source.encoder, source.dimensions, start)
        # A team's own fields stay.
        plain["mappings"]["properties"] = {
            **source.properties,
            **plain["mappings"].get("properties", {}),
        }
        body = changed_index(plain, variant, refuse)
        meta = body["mappings"]["_meta"]["neuralrank"]
        if variant.dimensions is not None:
            meta["dimensions"] = variant.dimensions
        template = variant.query or files.read(start / "queries" / "product.json")
        if files.PLACEHOLDER not in orjson.dumps(template).decode():
            raise refuse(
                ("query",), f'has no "{files.PLACEHOLDER}", where the user\'s text belongs.'
            )
        properties = body["mappings"].get("properties", {})
        try:
            template = boosted(template, variant.boosts)
        except InvalidInput as error:
            raise refuse(
                ("boosts",),
                f"{error} The index has "
                f"{', '.join(sorted(field.name for field in text_fields(properties)))}.",
            ) from None
        if mixed := mixed_analyzers(template, properties):
            raise refuse(
                ("analyzers",) if variant.analyzers else (),
                "combined_fields asks together fields that analyse queries by one analyzer; "
                f"here {mixed}. Name all of them, or give another query.",
            )
        pipeline = None
        if variant.rank:
            pipeline = _pipeline(spec, start, variant, refuse)
        planned.append(Planned(variant, body, digest(body), pipeline, template))
    if not _differs(spec):
        return [replace(each, key="") for each in planned]
    return planned


def boosted(template: Mapping[str, Any], boosts: Mapping[str, float]) -> dict[str, Any]:
    """A query with other weights of its fields; 0 leaves a field out.

    Raises:
        InvalidInput: the query has no such field, or none is left of a list.
    """
    seen: set[str] = set()
    made = _boosted(template, boosts, seen)
    if missing := sorted(boosts.keys() - seen):
        raise InvalidInput(f"the query has no field {', '.join(missing)} in a list of fields.")
    return dict(made)


def _boosted(value: Any, boosts: Mapping[str, float], seen: set[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _fields(inner, boosts, seen)
            if name == "fields" and isinstance(inner, list)
            else _boosted(inner, boosts, seen)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_boosted(inner, boosts, seen) for inner in value]
    return value


def _fields(names: list[Any], boosts: Mapping[str, float], seen: set[str]) -> list[str]:
    made = []
    for name in map(str, names):
        match = _BOOST.fullmatch(name)
        field = match["field"] if match else name
        if field not in boosts:
            made.append(name)
            continue
        seen.add(field)
        if boosts[field] > 0:
            made.append(f"{field}^{boosts[field]:g}")
    if not made:
        raise InvalidInput(f"nothing is left of the fields {', '.join(map(str, names))}.")
    return made


def _pipeline(spec: Spec, folder: Path, variant: Variant, refuse: Any) -> dict[str, Any]:
    """The search pipeline of the files, with what the variant says in its processors."""
    known = files.pipelines(folder)
    if spec.pipeline not in known:
        raise InvalidInput(
            f"The pipeline is {spec.pipeline!r}; {folder / 'pipelines'} has "
            f"{', '.join(sorted(known))}."
        )
    made = copy.deepcopy(known[spec.pipeline])
    given = {
        name: value
        for name in (*_RECALL_KEYS, *_RANK_KEYS)
        if (value := getattr(variant, name)) is not None
    }
    if variant.weights is not None:
        given["weights"] = variant.weights.model_dump(exclude_none=True)
    for keys, section, processor in (
        (_RECALL_KEYS, "request_processors", "neural_recall"),
        ((*_RANK_KEYS, "weights"), "response_processors", "neural_rank"),
    ):
        mine = {name: given[name] for name in keys if name in given}
        if not mine:
            continue
        config = _processor(made, section, processor)
        if config is None:
            raise refuse(
                (next(iter(mine)),), f"the pipeline {spec.pipeline} has no {processor} for it."
            )
        config |= mine
    return made


def _processor(pipeline: Mapping[str, Any], section: str, name: str) -> dict[str, Any] | None:
    return next((each[name] for each in pipeline.get(section, ()) if name in each), None)


def _differs(spec: Spec) -> bool:
    """Whether any variant says something about its index."""
    own = {"analyzers", "synonyms", "synonyms_file", "settings", "mappings", "folder"}
    own |= {"m", "ef_construction", "quantization", "dimensions"}
    return any(variant.model_fields_set & own for variant in spec.variants)
