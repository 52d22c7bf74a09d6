"""Hard filters: what may not be shown, each drop with its reason. No model is involved."""

from collections.abc import Iterator, Set
from typing import Final

import numpy as np
import numpy.typing as npt

from neuralrank.text.cleaning import normal_form
from sidecar.domain import (
    AttributeRule,
    Candidates,
    Dropped,
    DropReason,
    Filters,
    Profile,
)
from sidecar.sizes import MAX_VALUE

__all__ = ["apply_filters", "unchecked"]

_NONE_UNREAD: Final[frozenset[int]] = frozenset()


def apply_filters(
    candidates: Candidates,
    filters: Filters,
    profile: Profile,
    same_item: str = "",
    unread: Set[int] = _NONE_UNREAD,
) -> tuple[npt.NDArray[np.intp], list[Dropped]]:
    """Splits the candidates into those that may be shown and those that may not.

    A candidate is dropped once, for the first reason that holds, in this order: the item that
    similar ones are asked for, blocked items, blocked brands, purchases, stock, price, attributes.
    What is not known about a candidate never drops it, except by a rule that asks for a value; and
    not by that either where its item could not be read: a page must not be empty for a late read.

    Args:
        same_item: the item that similar items are asked for; "" for none.
        unread: positions of candidates whose items the index may have, and could not be read.

    Returns:
        Positions that stay, ascending, and what was dropped, in the order of the request.
    """
    dropped: dict[int, Dropped] = {}
    for position, reason, detail in _reasons(candidates, filters, profile, same_item, unread):
        if position not in dropped:
            dropped[position] = Dropped(candidates.ids[position], position, reason, detail)
    kept = np.ones(len(candidates), bool)
    kept[list(dropped)] = False
    return np.flatnonzero(kept), [dropped[position] for position in sorted(dropped)]


def unchecked(
    candidates: Candidates,
    filters: Filters,
    profile: Profile,
    unread: Set[int],
    kept: npt.NDArray[np.intp],
) -> int:
    """How many of those that stay do so because what a filter looks at could not be read."""
    brands = bool(profile.blocked_brands | filters.exclude_brands)
    priced = filters.min_price is not None or filters.max_price is not None
    return sum(
        (brands and candidates.brands[position] is None)
        or (filters.in_stock_only and candidates.in_stock[position] < 0)
        or (priced and bool(np.isnan(candidates.prices[position])))
        or any(_lacks(candidates, position, rule.name) for rule in filters.attributes)
        for position in kept.tolist()
        if position in unread
    )


def _reasons(
    candidates: Candidates,
    filters: Filters,
    profile: Profile,
    same_item: str,
    unread: Set[int],
) -> Iterator[tuple[int, DropReason, str]]:
    """Every reason against every candidate; a candidate's first one comes first."""
    ids = candidates.item_ids
    if same_item:
        for position, name in enumerate(ids):
            if name == same_item:
                yield position, DropReason.SAME_ITEM, "the item that similar ones are asked for"
    blocked = profile.blocked_items | filters.exclude_items
    if blocked:
        for position, name in enumerate(ids):
            if name in blocked:
                who = "the user" if name in profile.blocked_items else "exclude_items"
                yield position, DropReason.BLOCKED_ITEM, f"blocked by {who}"
    users = frozenset(map(_folded, profile.blocked_brands))
    brands = users.union(map(_folded, filters.exclude_brands))
    if brands:
        folded: dict[str, str] = {}
        for position in range(len(candidates)):
            for brand in _brands(candidates, position):
                # Many have the same.
                name = folded.get(brand) or folded.setdefault(brand, _folded(brand))
                if name in brands:
                    who = "the user" if name in users else "exclude_brands"
                    yield position, DropReason.BLOCKED_BRAND, f"brand {brand} is blocked by {who}"
    if filters.exclude_purchased and profile.purchased:
        for position, name in enumerate(ids):
            if name in profile.purchased:
                yield position, DropReason.PURCHASED, "the user has bought it"
    if filters.in_stock_only:
        for position in np.flatnonzero(candidates.in_stock == 0).tolist():
            yield position, DropReason.OUT_OF_STOCK, "out of stock"
    yield from _prices(candidates, filters)
    for rule in filters.attributes:
        yield from _rule(candidates, rule, unread)


def _brands(candidates: Candidates, position: int) -> tuple[str, ...]:
    """The brand, and where there are several the others: attributes hold them all."""
    brand, given = candidates.brands[position], candidates.attributes[position]
    return (*((brand,) if brand else ()), *((given or {}).get("brand", ())))


def _prices(candidates: Candidates, filters: Filters) -> Iterator[tuple[int, DropReason, str]]:
    # A comparison with NaN is false: an unknown price passes.
    prices = candidates.prices
    if filters.min_price is not None:
        for position in np.flatnonzero(prices < filters.min_price).tolist():
            price, least = _plain(prices[position]), _plain(filters.min_price)
            detail = f"price {price} is below min_price {least}"
            yield position, DropReason.PRICE_RANGE, detail
    if filters.max_price is not None:
        for position in np.flatnonzero(prices > filters.max_price).tolist():
            price, most = _plain(prices[position]), _plain(filters.max_price)
            detail = f"price {price} is above max_price {most}"
            yield position, DropReason.PRICE_RANGE, detail


def _plain(price: float) -> str:
    """As people write it: 20, 19.99, 1000000."""
    return np.format_float_positional(price, trim="-")


def _rule(
    candidates: Candidates, rule: AttributeRule, unread: Set[int]
) -> Iterator[tuple[int, DropReason, str]]:
    asked = frozenset(map(_folded, rule.values))
    for position in range(len(candidates)):
        values = _values(candidates, position, rule.name)
        hit = next((value for value in values if _folded(value) in asked), None)
        if rule.exclude and hit is not None:
            yield position, DropReason.ATTRIBUTE_RULE, f"{rule.name} is {hit}, which is excluded"
        elif not rule.exclude and hit is None:
            if position in unread and _lacks(candidates, position, rule.name):
                continue
            has = ", ".join(values) or "not known"
            wanted = ", ".join(sorted(rule.values))
            yield (
                position,
                DropReason.ATTRIBUTE_RULE,
                f"{rule.name} is {has}; wanted is {wanted}",
            )


def _folded(text: str) -> str:
    """As values are compared: without case, and a full-width "５００ｍｌ" is "500ml".

    No more of them than may be sent: a sign may stand for many characters."""
    return normal_form(text)[:MAX_VALUE].casefold()


def _lacks(candidates: Candidates, position: int, name: str) -> bool:
    """Whether nothing came with a candidate that says what it has of this name."""
    given = candidates.attributes[position]
    if given is not None and name in given:
        return False
    if name == "brand":
        return candidates.brands[position] is None
    if name == "category":
        return not candidates.categories[position]
    return given is None


def _values(candidates: Candidates, position: int, name: str) -> tuple[str, ...]:
    given = candidates.attributes[position]
    values = given.get(name) if given is not None else None
    if values is not None:
        return tuple(values)
    if name == "brand":
        brand = candidates.brands[position]
        return (brand,) if brand else ()
    return tuple(candidates.categories[position]) if name == "category" else ()
