"""Hard filters as conditions of the query: OpenSearch then finds all that may be shown.

The sidecar drops what may not be shown from a window of hits, whatever index they are of; nobody
has looked at the hits after it. Of an index with our fields the query itself can ask for the same.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import NotFound
from neuralrank.text.cleaning import normal_form

__all__ = ["conditions", "filtered"]

_Query = dict[str, Any]

# What conditions are on, with the types that a product index has.
_FIELDS: Final = {
    "price": ("float", "double"),
    "in_stock": ("boolean",),
    "attributes": ("flat_object",),
    "brand.keyword": ("keyword",),
    "category.keyword": ("keyword",),
    "color.keyword": ("keyword",),
}
# Attributes that are fields of their own.
_OWN: Final = ("brand", "category", "color")
# What has a meaning in Lucene's regular expressions.
_SIGNS: Final = re.compile(r'[.?+*|{}\[\]()"\\#@&<>~^$-]')
# `index.max_regex_length`, where nobody changed it.
_LONGEST: Final = 1_000
# Full-width forms by ASCII signs.
_WIDE: Final = {" ": "\u3000", **{chr(sign): chr(sign + 0xFEE0) for sign in range(0x21, 0x7F)}}


def conditions(
    client: OpenSearch, index: str, filters: Mapping[str, Any]
) -> tuple[list[_Query], dict[str, Any]]:
    """What a query must ask for, so that what it finds passes hard filters.

    Args:
        filters: `ext.neural_rank.filters`.

    Returns:
        Clauses for a `filter`, and the filters that no query can express, which are the sidecar's.
        Of an index without our fields these are all.
    """
    if not filters or not _has_fields(client, index):
        return [], dict(filters)
    left = dict(filters)
    clauses: list[_Query] = []
    # What is not known of a product never drops it. Of variants the lowest price counts, and any
    # that is in stock.
    if (least := left.pop("min_price", None)) is not None:
        clauses.append(_none_of({"range": {"price": {"lt": least}}}))
    if (most := left.pop("max_price", None)) is not None:
        unknown = _none_of({"exists": {"field": "price"}})
        clauses.append(_any_of({"range": {"price": {"lte": most}}}, unknown))
    if left.pop("in_stock_only", False):
        known = _none_of({"exists": {"field": "in_stock"}})
        clauses.append(_any_of({"term": {"in_stock": True}}, known))
    rules = left.pop("attributes", ())
    asked = [_rule(rule) for rule in rules]
    clauses += [clause for clause in asked if clause is not None]
    if others := [rule for rule, clause in zip(rules, asked, strict=True) if clause is None]:
        left["attributes"] = others
    return clauses, left


def filtered(query: Mapping[str, Any], clauses: Sequence[_Query]) -> _Query:
    """The query with the same scores, of what meets all of these."""
    if not clauses:
        return dict(query)
    return {"bool": {"must": [dict(query)], "filter": list(clauses)}}


def _has_fields(client: OpenSearch, index: str) -> bool:
    """Whether all indexes of a name have the fields that conditions are on."""
    try:
        found = client.indices.get_mapping(index=index)
    except NotFound:
        return False  # The search says so, and what to do.
    return bool(found) and all(
        _type(each["mappings"], name) in kinds
        for each in found.values()
        for name, kinds in _FIELDS.items()
    )


def _type(mappings: Mapping[str, Any], name: str) -> str:
    field, _, inner = name.partition(".")
    at = mappings.get("properties", {}).get(field, {})
    return str((at.get("fields", {}).get(inner, {}) if inner else at).get("type", ""))


def _rule(rule: Mapping[str, Any]) -> _Query | None:
    """None where OpenSearch would refuse it for its length."""
    forms = dict.fromkeys(form for value in rule["values"] for form in _forms(value))
    pattern = f"({'|'.join(forms)})"
    if len(pattern) > _LONGEST:
        return None
    name = rule["name"]
    # The name is a part of what a `flat_object` compares with the expression.
    has: _Query = {"regexp": {f"attributes.{_escaped(name)}": {"value": pattern}}}
    if name in _OWN:
        # An attribute of the name stands for the field.
        own = {
            "bool": {
                "filter": [{"regexp": {f"{name}.keyword": {"value": pattern}}}],
                "must_not": [{"exists": {"field": f"attributes.{name}"}}],
            }
        }
        has = _any_of(has, own)
    return _none_of(has) if rule["exclude"] else has


def _forms(value: str) -> list[str]:
    """Expressions for what is written alike: as it was given, in its normal form, and without
    case, where "ß" is "ss"."""
    normal = normal_form(value)
    return ["".join(map(_sign, text)) for text in (value, normal, normal.casefold())]


def _sign(sign: str) -> str:
    """An expression for a character in either case and in full width."""
    cases = [form for form in (sign, sign.lower(), sign.upper()) if len(form) == 1]
    forms = dict.fromkeys(form for one in cases for form in (one, _WIDE.get(one, one)))
    escaped = "".join(map(_escaped, forms))
    return escaped if len(forms) == 1 else f"[{escaped}]"


def _escaped(text: str) -> str:
    return _SIGNS.sub(r"\\\g<0>", text)


def _any_of(*clauses: _Query) -> _Query:
    return {"bool": {"should": list(clauses), "minimum_should_match": 1}}


def _none_of(clause: _Query) -> _Query:
    return {"bool": {"must_not": [clause]}}
