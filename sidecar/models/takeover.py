"""What a bundle would answer, beside requests for its name, once it is in service."""

from collections.abc import Hashable
from contextlib import suppress
from dataclasses import replace

from neuralrank.errors import NotFound, Unavailable
from sidecar.models.serving import Loaded, Serving, unfollowed

__all__ = ["taken_over"]


def taken_over(before: Serving, now: Serving, candidate: Loaded) -> list[Loaded]:
    """What answered requests that name no bundle, and would no longer if the candidate served
    under its name: it is the first by the alphabet, or knows a language that others served.

    None of a bundle that the settings name as the default: they say that it is to answer. None
    either of one that answers only who names it.

    Args:
        before: what served before anything was changed; the candidate is compared with that.
        now: what serves at this moment.
    """
    kind, name, ref = candidate.status.kind, candidate.status.name, candidate.status.ref
    chosen = {
        "encoder": now.default_encoder,
        "cross_encoder": now.default_cross_encoder,
        "personal_ranker": now.default_personal,
    }
    if chosen.get(kind, "") in (name, ref):
        return []
    then = replace(
        now,
        loaded={**now.loaded, ref: candidate},
        current={**(now.current or {}), name: ref},
    )
    answering = _answering(before, candidate)
    taken = {
        answering[asked]
        for asked, by in _answering(then, candidate).items()
        if by == ref and asked in answering
    }
    # One of its own name is what it replaces, whoever asks.
    others = [before.loaded[old] for old in sorted(taken) if old in before.loaded]
    return [other for other in others if other.status.name != name]


def _answering(serving: Serving, candidate: Loaded) -> dict[Hashable, str]:
    """name@hash of what answers requests of the candidate's kind that name none, by what it is
    chosen by: a language, or the encoder whose vectors are read."""
    # A look, and no request for what the settings name by hash.
    serving = replace(serving, asked=unfollowed)
    if candidate.cross_encoder is not None:
        found = {
            language: serving.cross_encoder_for(language)
            for language in _languages(serving, candidate)
        }
        return {language: one[0].ref for language, one in found.items() if one is not None}
    if candidate.personal is not None:
        ranker = serving.personal_ranker(candidate.personal.encoder)
        return {} if ranker is None else {candidate.personal.encoder: ranker[0].ref}
    default = serving.default_encoder if candidate.encoder is not None else ""
    with suppress(NotFound, Unavailable):
        return {"": serving.pick(default, candidate.status.kind).status.ref}
    return {}


def _languages(serving: Serving, candidate: Loaded) -> set[str | None]:
    """Those that the candidate knows, as far as they make a difference, and that of a query which
    is of none."""
    if candidate.status.languages:
        return {None, *candidate.status.languages}
    # It knows all: those that any other names, and one that none does.
    named = [one.status.languages for one in serving.loaded.values()]
    return {None, "", *(language for languages in named for language in languages)}
