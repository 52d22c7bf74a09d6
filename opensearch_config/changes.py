"""What the cluster has, against what the files say: the difference in words, and how to apply it.

Search pipelines, the UBI indexes and the component template `neuralrank_product` (for teams that
make product indexes themselves) are created and updated. Of a product index that exists refresh and
replicas are set, and writes that a killed run left refused are let in; its analyzers and fields
can't be changed in place, so `opensearch_config.renewal` makes it anew.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NotFound
from neuralrank.opensearch.generation import READ_ONLY, alias_of
from neuralrank.opensearch.succession import lift_left_over
from opensearch_config import files
from opensearch_config.differences import differences
from opensearch_config.engine import RANK_PLUGIN, require_engine, require_plugin
from opensearch_config.stale import settable, stale

__all__ = ["PRODUCT_TEMPLATE", "Change", "apply", "apply_ubi", "create", "diff"]

PRODUCT_TEMPLATE: Final = "neuralrank_product"
_PLUGIN_ADVICE: Final = (
    "Install it with `bin/opensearch-plugin install file:///…/neural-rank-<version>.zip` (built by "
    "`make setup`; `neuralrank up` does it for the local node)."
)

_REFUSES: Final = (
    "refuses writes, left so by a run that was killed: it takes them again (one that still goes on "
    "ends without effect)"
)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing in which the cluster differs from the files."""

    # "reindex" and "reload" are done by `opensearch_config.renewal`: the index is made anew behind
    # its alias, from its own documents. A "conflict" is left as it is.
    action: Literal["create", "update", "reindex", "reload", "conflict"]
    # What kind of thing, e.g. "search pipeline", and its name.
    kind: str
    name: str
    # In words: "refresh_interval is 5s, the file says 1s".
    details: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        return asdict(self)


def diff(client: OpenSearch, folder: Path = files.FOLDER) -> list[Change]:
    """What `apply` would do, and which product indexes are to be made anew. Changes nothing.

    Raises:
        Unsupported: the cluster lacks a plugin or the native library that the files ask for.
        InvalidInput: a file can't be used.
    """
    _require(client, folder)
    products = list(_products(client, folder))
    return [change for change, _ in _planned(client, folder, products)] + list(_stale(products))


def apply(client: OpenSearch, folder: Path = files.FOLDER) -> list[Change]:
    """Makes the cluster what the files say; run again, it changes nothing.

    Returns:
        What was done, what `renew` is for ("reindex", "reload"), and what can't be done in place
        ("conflict").

    Raises:
        Unsupported, InvalidInput: as `diff`; also if OpenSearch does not accept a file.
    """
    _require(client, folder)
    products = list(_products(client, folder))
    done = []
    for change, act in _planned(client, folder, products):
        _act(change, act)
        done.append(change)
    return done + list(_stale(products))


def create(client: OpenSearch, folder: Path = files.FOLDER) -> list[Change]:
    """Makes what the cluster lacks, and touches nothing that it has.

    Returns:
        In what the rest differs from the files: what `apply` would change.

    Raises:
        Unsupported, InvalidInput: as `apply`.
    """
    _require(client, folder)
    products = list(_products(client, folder))
    left = []
    for change, act in _planned(client, folder, products):
        if change.action == "create":
            _act(change, act)
        else:
            left.append(change)
    return left + list(_stale(products))


def apply_ubi(client: OpenSearch, folder: Path = files.FOLDER) -> list[Change]:
    """Only the UBI indexes. No plugin is needed."""
    done = []
    for change, act in _ubi(client, folder):
        _act(change, act)
        done.append(change)
    return done


_Planned = Iterator[tuple[Change, Callable[[], Any]]]


def _act(change: Change, act: Callable[[], Any]) -> None:
    try:
        act()
    except InvalidInput as error:
        raise InvalidInput(f"{change.kind} {change.name} can't be applied. {error}") from error


def _require(client: OpenSearch, folder: Path) -> None:
    require_engine(client, files.read(folder / "mappings" / "product.json"))
    require_plugin(client, RANK_PLUGIN, _PLUGIN_ADVICE)


def _planned(client: OpenSearch, folder: Path, products: "Sequence[_Product]") -> _Planned:
    yield from _pipelines(client, folder)
    yield from _ubi(client, folder)
    yield from _template(client, folder)
    yield from _settings(client, products)


def _pipelines(client: OpenSearch, folder: Path) -> _Planned:
    for name, wanted in files.pipelines(folder).items():
        try:
            live = client.search_pipeline.get(id=name).get(name)
        except NotFound:
            live = None
        if live is None:
            change = Change("create", "search pipeline", name)
        elif details := tuple(differences(wanted, live, whole=True)):
            change = Change("update", "search pipeline", name, details)
        else:
            continue
        yield (
            change,
            lambda name=name, wanted=wanted: client.search_pipeline.put(  # type: ignore[misc]
                id=name, body=wanted
            ),
        )


def _ubi(client: OpenSearch, folder: Path) -> _Planned:
    for name, wanted in files.ubi_indexes(folder).items():
        if not client.indices.exists(index=name):
            yield (
                Change("create", "index", name),
                lambda name=name, wanted=wanted: _create(client, name, wanted),  # type: ignore[misc]
            )
            continue
        live = next(iter(client.indices.get_mapping(index=name).values()))["mappings"]
        # OpenSearch's UBI plugin makes these indexes too, with some fields as it likes them. They
        # stay so: OpenSearch would refuse the whole mapping for one field that can't be changed.
        if fields := _changeable(wanted["mappings"], live):
            yield (
                Change("update", "index", name, tuple(differences(fields, live))),
                lambda name=name, fields=fields: client.indices.put_mapping(  # type: ignore[misc]
                    index=name, body=fields
                ),
            )
        if types := tuple(_conflicts(wanted["mappings"], live)):
            yield Change("conflict", "index", name, types), lambda: None


def _create(client: OpenSearch, name: str, wanted: Mapping[str, Any]) -> None:
    try:
        client.indices.create(index=name, body=wanted)
    except InvalidInput:
        # Somebody else may have made it since it was looked for.
        if not client.indices.exists(index=name):
            raise


def _changeable(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """Of a wanted mapping what a live index takes: fields that it lacks, and `ignore_above`."""
    fields: dict[str, Any] = {}
    known = live.get("properties", {})
    for name, field in wanted.get("properties", {}).items():
        if name not in known:
            fields[name] = field
        elif _type(field) != _type(known[name]):
            continue
        elif inner := _changeable(field, known[name]):
            fields[name] = inner
        elif field.get("ignore_above") not in (None, known[name].get("ignore_above")):
            fields[name] = {**known[name], "ignore_above": field["ignore_above"]}
    return {"properties": fields} if fields else {}


def _conflicts(
    wanted: Mapping[str, Any], live: Mapping[str, Any], above: str = ""
) -> Iterator[str]:
    """The fields that a live index has with another type, in words."""
    known = live.get("properties", {})
    for name, field in wanted.get("properties", {}).items():
        if name not in known:
            continue
        mine, its = _type(field), _type(known[name])
        if mine != its:
            yield f"{above}{name} is {its}, the file says {mine}: only a new index can have it so"
        else:
            yield from _conflicts(field, known[name], f"{above}{name}.")


def _type(field: Mapping[str, Any]) -> str:
    return str(field.get("type", "object"))


def _template(client: OpenSearch, folder: Path) -> _Planned:
    wanted = {"template": files.product_index(folder=folder)}
    try:
        found = client.cluster.get_component_template(name=PRODUCT_TEMPLATE)
        live = found["component_templates"][0]["component_template"]
    except NotFound:
        change = Change("create", "component template", PRODUCT_TEMPLATE)
    else:
        details = tuple(differences(_flat_settings(wanted), _flat_settings(live), whole=True))
        if not details:
            return
        change = Change("update", "component template", PRODUCT_TEMPLATE, details)
    yield (
        change,
        lambda: client.cluster.put_component_template(name=PRODUCT_TEMPLATE, body=wanted),
    )


@dataclass(frozen=True, slots=True)
class _Product:
    """A product index in use."""

    index: str
    alias: str | None  # that of its stem
    behind: tuple[str, ...]  # all indexes of that alias
    wanted: Mapping[str, Any]  # settings and mappings that it would have if it were made now
    properties: Mapping[str, Any]
    settings: Mapping[str, Any]  # those below `index`
    left_read_only: bool  # by a run that made it anew, and was killed or goes on


def _products(client: OpenSearch, folder: Path) -> Iterator[_Product]:
    # Product indexes begin with a letter or a digit; of system indexes OpenSearch warns.
    named = "*,-.*"
    mappings = client.indices.get_mapping(index=named, params={"expand_wildcards": "open"})
    found = client.indices.get_alias(index=named, params={"expand_wildcards": "open"})
    aliases = {index: set(body["aliases"]) for index, body in found.items()}
    in_use = set().union(*aliases.values())
    for index, body in sorted(mappings.items()):
        live = body["mappings"]
        meta = live.get("_meta", {}).get("neuralrank", {})
        # An index of a team's own may say which encoder made its vectors; it stays theirs. One that
        # we made has a state.
        if "state" not in meta or not aliases.get(index):
            continue
        alias = alias_of(index, aliases[index])
        # Kept under another alias for going back, while a newer one serves.
        if alias is None and alias_of(index, in_use):
            continue
        settings = client.indices.get_settings(index=index)[index]["settings"]["index"]
        refuses = settings.get("blocks", {}).get("write") == "true"
        yield _Product(
            index,
            alias,
            tuple(sorted(name for name, its in aliases.items() if alias in its)),
            files.index_like(meta, folder, lenient=True),
            live.get("properties", {}),
            settings,
            refuses and bool(meta.get(READ_ONLY)),
        )


def _settings(client: OpenSearch, products: Sequence[_Product]) -> _Planned:
    """Refresh and replicas of the product indexes, and that they take writes."""
    for product in products:
        if product.left_read_only:
            yield (
                Change("update", "index", product.index, (_REFUSES,)),
                lambda index=product.index: lift_left_over(client, index),  # type: ignore[misc]
            )
        wanted, words = settable(product.wanted, product.settings)
        if words:
            yield (
                Change("update", "index", product.index, words),
                lambda index=product.index, wanted=wanted: client.indices.put_settings(  # type: ignore[misc]
                    index=index, body={"index": wanted}
                ),
            )


def _stale(products: Sequence[_Product]) -> Iterator[Change]:
    """The product indexes whose fields, shards or analyzers are not those of the files."""
    for product in products:
        found = stale(product.wanted, product.properties, product.settings)
        if not found:
            continue
        words = tuple(map(str, found))
        if product.alias is None:
            why = "it has no alias of its stem, so nothing can take its place without a gap"
            yield Change("conflict", "index", product.index, (*words, why))
        elif len(product.behind) > 1:
            behind = ", ".join(product.behind)
            why = f"{product.alias} stands for {behind}: one index can't take their place"
            yield Change("conflict", "index", product.index, (*words, why))
        else:
            action: Literal["reindex", "reload"] = (
                "reindex" if any(each.needs == "reindex" for each in found) else "reload"
            )
            yield Change(action, "index", product.index, words)


def _flat_settings(template: Mapping[str, Any]) -> dict[str, Any]:
    """OpenSearch gives settings back below `index`, wherever they were written."""
    inner = template["template"]
    settings = dict(inner.get("settings", {}))
    index = {**settings.pop("index", {}), **settings}
    return {"mappings": inner.get("mappings", {}), "settings": index}
