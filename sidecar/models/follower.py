"""The bundles that are served: loaded from the registry, checked, swapped in while requests run.

Readers take `Models.serving`, one immutable object, and keep it for the length of a request; a
swap replaces the reference and touches nothing that a request holds. The old model is freed with
the last request that holds it. A bundle that can't be verified or loaded, or is slower than
allowed, is refused with its reason, and what served before goes on serving, under its name or as
what answers requests that name none. One that could not be read is tried again, after pauses that
double.

Loaded are: what is in service, what is tried beside it, what settings or indexes name by hash, and
what requests asked for by hash lately. Decision 009 says why.
"""

import asyncio
import logging
import math
import time
import weakref
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from neuralrank.backends.choice import Choice
from neuralrank.bundles.bundle import parse_ref
from neuralrank.bundles.in_service import NONE
from neuralrank.errors import NeuralrankError, Unavailable
from sidecar.cores import Share, step_back
from sidecar.deadline import Clock
from sidecar.models.loading import BundleSource, TooSlow, check_speed, load_bundle
from sidecar.models.plan import Plan, Reader
from sidecar.models.serving import Agreement, Loaded, Role, Serving, State, Status, unfollowed
from sidecar.models.takeover import taken_over

__all__ = ["Models"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# Seconds until a bundle that could not be read is tried again: the first time, and at most. Each
# try may download it anew, until a disk is full.
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 300.0
# Seconds between looks for copies of bundles that nobody uses any more.
_TIDY_SECONDS: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a bundle does not serve. Files of another fingerprint ("" of what is not known) get
    another chance, and from `again` on so do the same, `pause` seconds after they were tried; so do
    they when `slower_than`, where it was too slow beside that bundle, answers no more."""

    status: Status
    fingerprint: str
    again: float = math.inf
    pause: float = 0.0
    slower_than: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    """The place that a bundle is to take: how much slower than what has it now it may be, and what
    served when the look at the registry began."""

    max_slowdown: float
    before: Serving


class Models:
    """Follows the registry. `refresh` is one look at it; who calls it again waits with `wait`."""

    def __init__(
        self,
        source: BundleSource,
        *,
        share: Share,
        default_encoder: str = "",
        default_cross_encoder: str = "",
        default_personal: str = "",
        choice: Choice | None = None,
        max_slowdown: float = 2.0,
        asked_bundles: int = 4,
        asked_seconds: float = 3_600.0,
        nice: int = 0,
        clock: Clock = time.monotonic,
    ) -> None:
        """
        Args:
            choice: of the backend; by default ONNX Runtime.
            max_slowdown: how many times slower than the one in service a bundle may be that takes
                its place, under its name or for requests that name none.
            asked_bundles: the most that are loaded because requests asked for them by hash; of 0,
                asking for one that is not loaded finds none.
            asked_seconds: how long such a bundle stays after it was last asked for.
            nice: how much lower the priority of the thread is that loads and checks bundles.
        """
        self._source = source
        self._reader = Reader(source)
        self._share = share
        self._choice = choice
        self._max_slowdown = max_slowdown
        self._asked_bundles = asked_bundles
        self._asked_seconds = asked_seconds
        self._clock = clock
        self._plan = Plan()
        self._refused: dict[str, _Refusal] = {}
        self._loading: dict[str, Status] = {}
        self._asked: dict[str, float] = {}
        self._tidy_at = clock()
        self._named: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self._on_freed: list[Callable[[str], Awaitable[None]]] = []
        self._telling: set[asyncio.Future[None]] = set()
        self._pool = ThreadPoolExecutor(
            1, thread_name_prefix="models", initializer=step_back, initargs=(nice,)
        )
        # How a shadow compares; None for what is none.
        self.agreement: Callable[[str], Agreement | None] = lambda _: None
        self.serving = Serving(
            {}, default_encoder, default_cross_encoder, default_personal, {}, asked=self._ask
        )

    def name_encoders(self, refs: Collection[str]) -> None:
        """Bundles that must stay loaded, since indexes hold their vectors."""
        named = frozenset(refs)
        if named - self._named:
            self._wake.set()
        self._named = named

    def on_freed(self, call: Callable[[str], Awaitable[None]]) -> None:
        """Calls with the name@hash of each bundle that no request holds any more."""
        self._on_freed.append(call)

    async def wait(self, seconds: float) -> None:
        """Until it is time for the next look: after so long, or at once where a request has asked
        for a bundle that is not loaded."""
        with suppress(TimeoutError):
            # Not `wait_for`, of which Python 3.11 loses a cancellation that comes with the result.
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def refresh(self) -> None:
        """Makes what serves what the registry says; each bundle fails on its own.

        What left the registry goes on serving until another takes its place: a registry that is
        unreachable for a moment must not take the models away.
        """
        try:
            plan = await self._in_thread(self._reader.look)
        except (NeuralrankError, OSError) as error:
            _log.warning("the model registry can't be read: %s", error)
            return
        self._plan = plan
        await self._look_again(plan)
        self.serving = replace(self.serving, published=self._loadable(plan))
        for ref, reason in plan.problems.items():
            self._refuse(ref, reason, "")
        before = self.serving
        for name, order in plan.orders.items():
            await self._serve(name, order, plan, before)
        for ref in self._needed(plan):
            if ref in plan.refs and ref not in self.serving.loaded:
                await self._load(ref, None)
        self._settle(plan)
        await self._tidy(plan)

    async def hold_to_earlier(self) -> None:
        """Compares each bundle in service with what it would have been compared with if this
        sidecar had run when it was published: the one before it under its name, and those of names
        that are older, in whose place it answers. For the start: nothing was in service then.

        After `refresh`, and not as a part of it: the one before has to be loaded for this, and
        nobody should wait for that.
        """
        since = self._plan.since
        known = (self.serving.current or {}).keys() & since.keys()
        names = sorted(known, key=lambda name: (since[name], name))
        for place, name in enumerate(names):
            await self._hold_to_previous(name)
            await self._hold_to_older(name, names[:place])
        self._settle(self._plan)

    @property
    def statuses(self) -> list[Status]:
        """Every bundle that serves, waits, was tried or served before, by name."""
        # Asked from anywhere, by metrics too; it is no request for a bundle.
        serving, plan = replace(self.serving, asked=unfollowed), self._plan
        rows = {status.ref: status for status in serving.statuses}
        rows |= {ref: refusal.status for ref, refusal in self._refused.items()}
        rows |= self._loading
        defaults = set()
        for kind, name in (
            ("encoder", serving.default_encoder),
            ("cross_encoder", serving.default_cross_encoder),
            ("image_encoder", ""),
        ):
            with suppress(NeuralrankError):
                defaults.add(serving.pick(name, kind).status.ref)
        # One for each encoder whose vectors one of them reads.
        rankers = [serving.loaded[ref].personal for ref in serving.personal_rankers]
        defaults |= {
            found[0].ref
            for ranker in rankers
            if ranker is not None and (found := serving.personal_ranker(ranker.encoder))
        }
        roles: dict[str, list[Role]] = {}
        for name, ref in (serving.current or {}).items():
            roles.setdefault(ref, []).append(Role.SERVING)
            before = next((old for old in plan.orders.get(name, ()) if old != ref), None)
            if before is not None:
                roles.setdefault(before, []).append(Role.PREVIOUS)
                known = Status(*parse_ref(before), "", (), State.PUBLISHED)
                rows.setdefault(before, known)
        shares: dict[str, float] = {}
        for role, trials in ((Role.CANARY, serving.canaries), (Role.SHADOW, serving.shadows)):
            for ref, percent in trials.values():
                roles.setdefault(ref, []).append(role)
                shares[ref] = percent
        return [
            replace(
                rows[ref],
                is_default=ref in defaults,
                roles=tuple(roles.get(ref, ())),
                percent=shares.get(ref, 0.0),
                agreement=self.agreement(ref),
            )
            for ref in sorted(rows)
        ]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, ref: str) -> None:
        self._asked[ref] = self._clock()
        if ref not in self.serving.loaded and ref not in self._refused:
            self._wake.set()

    async def _in_thread(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def _look_again(self, plan: Plan) -> None:
        """Forgets the refusal of what was replaced or removed since."""
        for ref, refusal in list(self._refused.items()):
            if ref in plan.problems:  # this look has read it again
                continue
            rival = refusal.slower_than
            if (
                ref not in plan.refs
                or (rival and not self._answers(rival))
                or await self._fingerprint(ref) not in ("", refusal.fingerprint)
            ):
                del self._refused[ref]

    def _answers(self, ref: str) -> bool:
        """Whether it is in service: for its name, or as the settings have it by its hash."""
        serving = self.serving
        exact = (serving.default_encoder, serving.default_cross_encoder, serving.default_personal)
        return ref in exact or ref in (serving.current or {}).values()

    def _waits(self, ref: str) -> bool:
        """Whether it was refused, and its time has not come."""
        refusal = self._refused.get(ref)
        return refusal is not None and self._clock() < refusal.again

    async def _serve(self, name: str, order: Collection[str], plan: Plan, before: Serving) -> None:
        """Has the first of a name's bundles answer that can be served, or none where the registry
        says so. A name that is only missing there keeps what it has.

        Args:
            before: what served when this look began.
        """
        answering = dict(self.serving.current or {})
        current = answering.pop(name, "")
        if current and not order and plan.states[name].serving == NONE:
            self.serving = replace(self.serving, current=answering)
            _log.info("bundle withdrawn", extra={"bundle": current})
        for ref in order:
            if self._waits(ref):
                continue
            if ref == current:
                return
            if await self._load(ref, _Place(self._limit(name), before)):
                self._put(name, ref)
                return

    def _put(self, name: str, ref: str) -> None:
        """Has a bundle that is loaded answer for its name."""
        current = self.serving.current or {}
        self.serving = replace(self.serving, current={**current, name: ref})
        _log.info("bundle serving", extra={"bundle": ref, "before": current.get(name, "")})

    async def _hold_to_previous(self, name: str) -> None:
        """Has the bundle that served before serve again where the one in service is too slow."""
        ref = (self.serving.current or {})[name]
        older = await self._before(name, ref)
        if older is None or await self._is_fast(ref, older):
            return
        before = older.status.ref
        if before not in self.serving.loaded:
            self._add(before, older)
        self._put(name, before)

    async def _hold_to_older(self, name: str, names: Collection[str]) -> None:
        """Has what scores candidates serve no more where it is too slow beside what would answer in
        its place if there were only older names; another of its name may, as at a look at the
        registry.

        Not an encoder: which one is asked is decided by the index, and one that knows more
        languages has to be larger.
        """
        serving = self.serving
        current = dict(serving.current or {})
        ref = current.pop(name)
        one = serving.loaded[ref]
        if one.cross_encoder is None and one.personal is None:
            return
        there = replace(
            serving, current={older: current[older] for older in names if older in current}
        )
        for other in taken_over(there, there, one):
            if not await self._is_fast(ref, other):
                self.serving = replace(serving, current=current)
                await self._serve(name, self._plan.orders[name], self._plan, there)
                return

    async def _is_fast(self, ref: str, beside: Loaded) -> bool:
        """Whether a bundle in service is, beside one of before; else it is refused."""
        try:
            limit = self._limit(parse_ref(ref)[0])
            await self._in_thread(check_speed, beside, self.serving.loaded[ref], limit)
        except TooSlow as error:
            fingerprint = await self._fingerprint(ref)
            self._refuse(ref, str(error), fingerprint, slower_than=beside.status.ref)
            return False
        return True

    async def _before(self, name: str, ref: str) -> Loaded | None:
        """The newest bundle of a name that served before another and can be loaded. What can't be
        is none that anybody asks for: it is not refused."""
        order = list(self._plan.orders.get(name, ()))
        for before in order[order.index(ref) + 1 :] if ref in order else ():
            if self._waits(before):
                continue
            try:
                return await self._in_thread(self._checked, before, None)
            except Exception as error:  # whatever a file does
                about = {"bundle": before, "error": str(error)}
                _log.info("bundle of before can't be compared with", extra=about)
        return None

    def _limit(self, name: str) -> float:
        """How many times slower than the one in service a bundle of this name may be."""
        return self._plan.states[name].max_slowdown or self._max_slowdown

    async def _load(self, ref: str, place: _Place | None) -> bool:
        """Loads a bundle, or refuses it. One that is loaded already, since it is tried or was asked
        for by hash, was compared to none yet: it is, before it takes a place. One that was too slow
        for a place is loaded all the same where it is to have none: an index has its vectors."""
        refusal = self._refused.get(ref)
        aside = place is None and refusal is not None and bool(refusal.slower_than)
        if self._waits(ref) and not aside:
            return False
        # Before anything is read: a file that comes meanwhile makes another fingerprint.
        before = await self._fingerprint(ref)
        known = ref in self.serving.loaded
        if not known and ref not in self._refused:
            self._loading[ref] = Status(*parse_ref(ref), "", (), State.LOADING)
        try:
            loaded = await self._in_thread(self._checked, ref, place)
        except Exception as error:  # whatever a file does, the others go on serving
            # A disk or network that failed is tried again, a bundle is not.
            passes = isinstance(error, OSError | Unavailable)
            rival = error.incumbent if isinstance(error, TooSlow) else ""
            reason = str(error) or type(error).__name__
            self._refuse(ref, reason, before, passes=passes, slower_than=rival)
            return False
        finally:
            self._loading.pop(ref, None)
        if not aside:
            self._refused.pop(ref, None)
        if not known:
            self._add(ref, loaded)
        return True

    def _add(self, ref: str, loaded: Loaded) -> None:
        self.serving = replace(self.serving, loaded={**self.serving.loaded, ref: loaded})
        loop = asyncio.get_running_loop()
        weakref.finalize(loaded.model, self._freed, ref, loop).atexit = False

    def _checked(self, ref: str, place: _Place | None) -> Loaded:
        loaded = self.serving.loaded.get(ref)
        if loaded is None:
            loaded = load_bundle(self._source, ref, self._share, self._choice)
        if place is not None:
            for incumbent in self._incumbents(loaded, place.before):
                check_speed(incumbent, loaded, place.max_slowdown)
        return loaded

    def _incumbents(self, candidate: Loaded, before: Serving) -> list[Loaded]:
        """What a new bundle is compared to: the one that it replaces under its name, and those of
        other names in whose place it would answer requests that name none. Of these what answered
        when the look began: after a restart nothing did, and the order in which the bundles of a
        registry are then loaded must not decide which of them serve."""
        serving = self.serving
        own = serving.loaded.get((serving.current or {}).get(candidate.status.name, ""))
        others = taken_over(before, serving, candidate)
        return others if own is None else [own, *others]

    def _refuse(
        self,
        ref: str,
        reason: str,
        fingerprint: str,
        *,
        passes: bool = False,
        slower_than: str = "",
    ) -> None:
        """
        Args:
            passes: whether the same files may serve another time.
            slower_than: the bundle in service beside which it is too slow.
        """
        before = self._refused.get(ref)
        if before is None or before.status.reason != reason:
            _log.error("bundle refused", extra={"bundle": ref, "reason": reason})
        status = Status(*parse_ref(ref), "", (), State.REFUSED, reason)
        if passes:
            pause = min(2 * before.pause if before else 0.0, _LONGEST_PAUSE) or _FIRST_PAUSE
            self._refused[ref] = _Refusal(status, fingerprint, self._clock() + pause, pause)
        else:
            self._refused[ref] = _Refusal(status, fingerprint, slower_than=slower_than)

    async def _tidy(self, plan: Plan) -> None:
        """Has copies deleted of what is neither published nor loaded, now and then."""
        if self._clock() < self._tidy_at:
            return
        self._tidy_at = self._clock() + _TIDY_SECONDS
        await self._in_thread(self._source.tidy, plan.refs | self.serving.loaded.keys())

    async def _fingerprint(self, ref: str) -> str:
        """Changes with the files, and with how slow the bundle may be."""
        state = self._plan.states.get(parse_ref(ref)[0])
        try:
            files = await self._in_thread(self._source.fingerprint, ref)
            return f"{files} {state.max_slowdown if state else None}"
        except Exception:  # whatever the client of a store raises
            return ""

    def _needed(self, plan: Plan) -> list[str]:
        """What serves, what is tried, and what settings, indexes and recent requests name by hash,
        as long as there are not too many of the last."""
        chosen = self.serving
        exact = [chosen.default_encoder, chosen.default_cross_encoder, chosen.default_personal]
        current = (self.serving.current or {}).values()
        needed = [*current, *plan.trials, *(ref for ref in exact if "@" in ref), *self._named]
        now = self._clock()
        self._asked = {
            ref: at for ref, at in self._asked.items() if now - at <= self._asked_seconds
        }
        lately = sorted(self._asked.keys() - set(needed), key=self._asked.__getitem__, reverse=True)
        return list(dict.fromkeys([*needed, *lately[: self._asked_bundles]]))

    def _loadable(self, plan: Plan) -> frozenset[str]:
        """What is published, and is loaded where somebody asks for it by its hash."""
        found = plan.refs - self._refused.keys()
        return found if self._asked_bundles else found.intersection(self._needed(plan))

    def _settle(self, plan: Plan) -> None:
        """Puts trials in force, and lets go of what nothing needs any more."""
        trials = {
            role: {
                name: found
                for name in plan.states
                if (found := plan.trial(name, role)) is not None and found[0] in self.serving.loaded
            }
            for role in ("canary", "shadow")
        }
        needed = set(self._needed(plan))
        loaded = {ref: one for ref, one in self.serving.loaded.items() if ref in needed}
        self.serving = replace(
            self.serving,
            loaded=loaded,
            canaries=trials["canary"],
            shadows=trials["shadow"],
            published=self._loadable(plan),
        )

    def _freed(self, ref: str, loop: asyncio.AbstractEventLoop) -> None:
        """From whichever thread held it last."""
        _log.info("bundle freed", extra={"bundle": ref})
        with suppress(RuntimeError):  # the loop has ended, and the caches with it
            loop.call_soon_threadsafe(self._tell_freed, ref)

    def _tell_freed(self, ref: str) -> None:
        if ref in self.serving.loaded:  # again, meanwhile
            return
        for call in self._on_freed:
            told = asyncio.ensure_future(call(ref))
            self._telling.add(told)
            told.add_done_callback(self._telling.discard)
