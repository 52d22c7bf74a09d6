"""The model registry: published bundles under any path that fsspec understands.

    <registry>/<name>/<hash>/manifest.json …
    <registry>/<name>/serving.json              which of them is in service (`in_service`)
    <registry>/<name>/<hash>.candidate.json     what a candidate has shown (`candidates`)

A reader never sees half a bundle: on a local disk, publishing copies to a temporary folder and then
renames it; elsewhere the manifest, without which there is no bundle, is put last. `serving.json` is
replaced in one step (a rename, or one put of an object store). Bundles of a remote registry are
copied to a local cache (`cache`) before they are opened. Of two writers of one name at the
same moment, the later one wins.
"""

import glob
import hashlib
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

from neuralrank.bundles.bundle import (
    MANIFEST,
    Bundle,
    Kind,
    Manifest,
    content_hash,
    most_languages_first,
    parse_manifest,
    parse_ref,
)
from neuralrank.bundles.cache import BundleCache
from neuralrank.bundles.candidates import Candidate, parse_candidate
from neuralrank.bundles.in_service import NONE, InService, Published, Trial, parse_in_service
from neuralrank.credentials import shown
from neuralrank.errors import InvalidBundle, InvalidInput, NotFound, Unavailable, Unsupported
from neuralrank.files.whole import whole_folder, write_whole

__all__ = ["Registry"]

_SERVING = "serving.json"


class Registry:
    """Published bundles, by name and hash."""

    def __init__(self, url: str, cache: Path | None = None) -> None:
        """
        Args:
            url: a local path, or a URL such as `s3://bucket/models`.
            cache: where bundles of a remote registry are kept; a folder of the system's temporary
                one by default.

        Raises:
            Unsupported: the package that reads such URLs is not installed.
            InvalidInput: no package reads such URLs.
        """
        # As messages show it.
        self.url = shown(url)
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise Unsupported(
                f"The registry {self.url} can't be read: {error}. Install it beside neuralrank."
            ) from error
        except ValueError as error:
            raise InvalidInput(
                f"The registry {self.url} can't be read: {error}. Allowed is a path, or a URL that "
                "fsspec knows, such as s3://bucket/models."
            ) from error
        self._local = isinstance(self._fs, LocalFileSystem)
        self._cache = BundleCache(cache or Path(tempfile.gettempdir()) / "neuralrank-bundles")

    def refs(self) -> list[str]:
        """`name@hash` of every published bundle, without opening any; cheap enough to poll."""
        self._fs.invalidate_cache()
        found = self._fs.glob(f"{glob.escape(self._root)}/*/*/{MANIFEST}")
        parts = [path.split("/")[-3:-1] for path in found]
        return sorted(f"{name}@{digits}" for name, digits in parts if not digits.startswith("."))

    def verified(self) -> tuple[list[Bundle], list[str]]:
        """Every published bundle by name and then oldest first, and what is wrong with those that
        are damaged, in words."""
        bundles, damaged = [], []
        for ref in self.refs():
            try:
                bundles.append(self._open(ref))
            except InvalidBundle as error:
                damaged.append(f"{ref}: {error}")
        return sorted(bundles, key=lambda b: (b.manifest.name, b.manifest.created)), damaged

    def get(self, ref: str) -> Bundle:
        """The bundle of a `name@hash`, or the one in service of a `name`.

        Raises:
            NotFound: there is none, or none of the name serves; the message lists what there is.
            InvalidBundle: it is damaged.
            Unavailable: a remote one could not be copied whole.
        """
        return self._open(self.resolve(ref))

    def serving(self, kind: Kind) -> dict[str, Manifest]:
        """What is in service of a kind, by `name@hash`: one of each name."""
        made = {ref: self.manifest(ref) for ref in self._serving()}
        return {ref: manifest for ref, manifest in made.items() if manifest.kind == kind}

    def answering(self, manifest: Manifest) -> str | None:
        """What answers today where a bundle with this manifest would, by `name@hash`.

        That is the one in service under its name, else, of the other names by the alphabet, as
        sidecars choose (`sidecar.models.serving`), the first of its kind that reads a language of
        its own, and for a personal ranker the same encoder's vectors. Of encoders those come first
        that know most languages. None: nothing does.
        """
        names = {parse_ref(ref)[0]: ref for ref in self._serving()}
        if manifest.name in names:
            return names[manifest.name]
        made = {ref: self.manifest(ref) for ref in names.values()}
        alike = [ref for ref in made if _alike(made[ref], manifest)]
        if manifest.kind == "encoder":
            alike.sort(key=lambda ref: most_languages_first(made[ref].languages))
        return next(iter(alike), None)

    def resolve(self, ref: str) -> str:
        """`name@hash`, in full, of a name, or of a name and the beginning of a hash.

        Raises:
            NotFound: there is none, or none of the name serves; the message lists what there is.
            InvalidInput: several bundles begin so, or `serving.json` is damaged.
        """
        name, digits = parse_ref(ref)
        refs = self.refs()
        hashes = [parse_ref(r)[1] for r in refs if parse_ref(r)[0] == name]
        matching = [found for found in hashes if found.startswith(digits)]
        if matching and not digits:
            matching = self.in_service(name).order(self.published(name))[:1]
            if not matching:
                raise NotFound(
                    f"Nothing serves under {name!r} in the registry {self.url}: "
                    f"{', '.join(r for r in refs if parse_ref(r)[0] == name)} waits as a candidate "
                    "or can't be read. Name one by its hash, or put it into service: `neuralrank "
                    "models promote NAME@HASH --dataset DATASET`."
                )
        if len(matching) > 1:
            raise InvalidInput(
                f"{ref!r} is the beginning of {' and '.join(matching)}. Give more of its hash."
            )
        if not matching:
            known = ", ".join(refs) or "nothing; `neuralrank models add` puts bundles there"
            raise NotFound(f"No bundle {ref!r} in the registry {self.url}. There is: {known}.")
        return f"{name}@{matching[0]}"

    def serves(self, ref: str) -> bool:
        """Whether a `name@hash` is in service under its name."""
        return ref in self._serving()

    def manifest(self, ref: str) -> Manifest:
        """The manifest of a `name@hash`, without its other files.

        Raises:
            NotFound: it is not there.
            InvalidBundle: it is not understood.
        """
        path = f"{self._folder(ref)}/{MANIFEST}"
        try:
            return parse_manifest(self._fs.cat_file(path, 0, 2**20 + 1), shown(path))
        except FileNotFoundError as error:
            raise NotFound(f"{ref} is not in the registry {self.url} any more.") from error

    def published(self, name: str) -> tuple[Published, ...]:
        """The bundles of a name whose manifest is understood, oldest first."""
        found = [Published(digits, known.created) for digits, known in self._understood(name)]
        return tuple(sorted(found, key=lambda entry: (entry.created, entry.hash)))

    def fingerprint(self, ref: str) -> str:
        """Changes when a file of the bundle is replaced, removed or added; reads no content."""
        found = self._fs.find(self._folder(ref), detail=True)
        rows = []
        for path, info in sorted(found.items()):
            changed = [info.get(key) for key in ("size", "mtime", "ino", "LastModified", "ETag")]
            rows.append(f"{path} {changed} {info.get('created') if not self._local else ''}")
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def came(self, ref: str) -> datetime:
        """When a published bundle came here, in UTC, as the time of its manifest says; where the
        store knows no times, when it was made."""
        try:
            at: datetime = self._fs.modified(f"{self._folder(ref)}/{MANIFEST}")
        except (NotImplementedError, FileNotFoundError):
            return self.manifest(ref).created
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    def tidy(self, used: Collection[str]) -> None:
        """Deletes from the local cache of a remote registry what neither this process nor another
        one uses any more.

        Args:
            used: `name@hash` of what the registry has, and of what is loaded.
        """
        if not self._local:
            self._cache.tidy(used)

    def in_service(self, name: str) -> InService:
        """What serves under a name.

        Raises:
            InvalidInput: `serving.json` is damaged.
        """
        path = f"{self._root}/{name}/{_SERVING}"
        try:
            return parse_in_service(self._fs.cat_file(path), shown(path))
        except FileNotFoundError:
            return InService()

    def publish(self, bundle: Bundle, *, candidate: bool = False) -> Bundle:
        """Copies a bundle into the registry; one that is there already is left as it is, unless it
        is damaged there: then it is copied anew.

        Args:
            candidate: it must not serve before it is promoted: what serves now is pinned first, and
                `candidates` lists it. The first bundle of a name serves all the same where no other
                name's bundle answers in its place (`answering`).

        Returns:
            The bundle in the registry.

        Raises:
            InvalidInput: bundles of its name are of another kind, of which one would leave service
                for it.
        """
        name = bundle.manifest.name
        target = f"{self._root}/{name}/{bundle.hash}"
        self._fs.invalidate_cache()
        if (held := self._held(bundle)) is None:
            self._require_kind(bundle)
            known = self._fs.exists(f"{target}/{MANIFEST}")
            with self._filling(bundle, target) as folder:
                for file in bundle.manifest.files:
                    self._fs.put_file(str(bundle.path / file), f"{folder}/{file}")
                if candidate and not known and self._pin(bundle.manifest):
                    self.record(bundle.ref, Candidate())
                self._fs.put_file(str(bundle.path / MANIFEST), f"{folder}/{MANIFEST}")
            new = self.candidate(bundle.ref) is None
            if new and not candidate and self.in_service(name).serving == NONE:
                # A person's own act: it serves, and the candidates of its name go on waiting.
                self.promote(bundle.ref)
            held = self._open(bundle.ref)
        return held

    def candidate(self, ref: str) -> Candidate | None:
        """What is known of a candidate, `name@hash`; None of a bundle that was never one.

        Raises:
            InvalidInput: its record is damaged.
        """
        path = self._record(ref)
        try:
            return parse_candidate(self._fs.cat_file(path), shown(path))
        except FileNotFoundError:
            return None

    def candidates(self, name: str = "") -> dict[str, Candidate]:
        """What is known of each, or of each of one name, by `name@hash`."""
        refs = [ref for ref in self.refs() if name in ("", parse_ref(ref)[0])]
        found = {ref: self.candidate(ref) for ref in refs}
        return {ref: candidate for ref, candidate in found.items() if candidate is not None}

    def record(self, ref: str, candidate: Candidate) -> None:
        """Writes what is known of a candidate, `name@hash`, in the place of what was."""
        self._replace(self._record(ref), candidate.model_dump_json(indent=2))

    def promote(self, ref: str, *, max_slowdown: float | None = None) -> str:
        """Puts a bundle into service and pins it; a name alone follows its newest bundle again, and
        other candidates that nobody promoted stay what they are. A `serving.json` that is damaged
        is written anew.

        Args:
            max_slowdown: how many times slower than the one before it may be.

        Returns:
            `name@hash` of what is in service now.

        Raises:
            NotFound: it is not there.
            InvalidBundle: it is damaged.
        """
        name, digits = parse_ref(ref)
        try:
            state = self.in_service(name)
        except InvalidInput:
            state = None
        if not digits:
            # Of what served before a damaged one, nothing is known.
            before = state or InService(serving=NONE)
            candidates = {parse_ref(ref)[1] for ref in self.candidates(name)}
            after = before.following(self.published(name), candidates, max_slowdown)
            self._write(name, after)
            return self.resolve(name)
        bundle = self.get(ref)
        after = (
            state.promoted(bundle.hash, self.published(name), max_slowdown)
            if state
            else InService(serving=bundle.hash, max_slowdown=max_slowdown)
        )
        self._write(name, after)
        return bundle.ref

    def rollback(self, name: str) -> str:
        """Puts what served before back into service, and returns its `name@hash`; "" for nothing,
        where the first bundle of a name had been promoted.

        Raises:
            NotFound: nothing served before.
        """
        self.resolve(name)  # NotFound with a list, for a name that is not there
        state = self.in_service(name).rolled_back(name, self.published(name))
        self._write(name, state)
        return "" if state.serving == NONE else f"{name}@{state.serving}"

    def try_out(self, ref: str, role: Literal["canary", "shadow"], percent: float) -> str:
        """Tries a candidate beside the served bundle; at 0 percent, ends that.

        Raises:
            NotFound: it is not there.
            InvalidInput: it is in service itself, or of a kind that can't be tried: the vectors of
                an index belong to one encoder.
        """
        full = self.resolve(ref)
        name, digits = parse_ref(full)
        kind = self.manifest(full).kind
        if percent and kind != "cross_encoder":
            raise InvalidInput(
                f"{full} is of kind {kind}; only a cross_encoder can be tried beside another. An "
                "index's vectors belong to one encoder: index the catalogue anew beside the old "
                "index, and compare them with `neuralrank evaluate`."
            )
        trial = Trial(hash=digits, percent=percent) if percent else None
        self._write(name, self.in_service(name).trying(role, trial, self.published(name)))
        return full

    def remove(self, ref: str) -> str:
        """Deletes a bundle.

        Raises:
            NotFound: it is not there.
            InvalidInput: it is in service, or tried.
        """
        name, digits = parse_ref(ref)
        if not digits:
            raise InvalidInput(f"{ref!r} names no bundle. Give NAME@HASH; there is no undo.")
        full = self.resolve(ref)
        _, digits = parse_ref(full)
        state, published = self.in_service(name), self.published(name)
        if digits in (*state.order(published)[:1], *state.trials):
            raise InvalidInput(
                f"{full} is in service or tried. Promote another, or end the trial, first."
            )
        if digits in (*state.history, *state.candidates):
            self._write(name, state.without(digits))
        self._fs.rm(self._folder(full), recursive=True)
        if self._fs.exists(self._record(full)):
            self._fs.rm(self._record(full))
        return full

    def _serving(self) -> tuple[str, ...]:
        """`name@hash` of what serves under each name, by name."""
        names = sorted({parse_ref(ref)[0] for ref in self.refs()})
        orders = ((name, self.in_service(name).order(self.published(name))) for name in names)
        return tuple(f"{name}@{order[0]}" for name, order in orders if order)

    def _pin(self, manifest: Manifest) -> bool:
        """Pins what serves in the place of a candidate that comes; whether anything does."""
        name = manifest.name
        state, published = self.in_service(name), self.published(name)
        if published:
            if not state.serving:
                served = state.order(published)[:1]
                pinned = state.promoted(served[0], published) if served else InService(serving=NONE)
                self._write(name, pinned)
            return True
        held = self.answering(manifest) is not None
        if held or state.serving:  # what was removed may have left a state behind
            self._write(name, InService(serving=NONE if held else ""))
        return held

    def _understood(self, name: str) -> Iterator[tuple[str, Manifest]]:
        """Hash and manifest of the bundles of a name whose manifest is understood."""
        for ref in self.refs():
            other, digits = parse_ref(ref)
            if other == name:
                with suppress(InvalidBundle, NotFound):
                    yield digits, self.manifest(ref)

    def _require_kind(self, bundle: Bundle) -> None:
        name, kind = bundle.manifest.name, bundle.manifest.kind
        kinds = {manifest.kind for _, manifest in self._understood(name)}
        if kinds and kind not in kinds:
            raise InvalidInput(
                f"{bundle.ref} is of kind {kind}, and what the registry {self.url} has under the "
                f"name {name!r} is of kind {' and '.join(sorted(kinds))}; one name has bundles of "
                "one kind. Give it another name with --name, or remove those first."
            )

    def _write(self, name: str, state: InService) -> None:
        # Sidecars of before 2026-11-30 know none.
        without = None if state.candidates else {"candidates"}
        text = state.model_dump_json(indent=2, exclude=without)
        self._replace(f"{self._root}/{name}/{_SERVING}", text)

    def _replace(self, path: str, text: str) -> None:
        """Writes a file in one step."""
        data = text.encode() + b"\n"
        if self._local:
            write_whole(Path(path), data)
        else:
            self._fs.pipe_file(path, data)

    def _record(self, ref: str) -> str:
        return f"{self._folder(ref)}.candidate.json"

    def _folder(self, ref: str) -> str:
        name, digits = parse_ref(ref)
        return f"{self._root}/{name}/{digits}"

    def _held(self, bundle: Bundle) -> Bundle | None:
        """A bundle as it is there; None where it is not, or damaged. Reads all of it: what is
        published again may be meant to mend it."""
        try:
            # What is kept here of a remote one says nothing of what is there.
            whole = self._local or (
                # The manifest may be another: what was measured is no content.
                content_hash(self.manifest(bundle.ref)) == bundle.hash
                and all(
                    self._sha256(f"{self._folder(bundle.ref)}/{file}") == expected
                    for file, expected in bundle.manifest.files.items()
                )
            )
            return self._open(bundle.ref) if whole else None
        except (InvalidBundle, NotFound, FileNotFoundError):
            return None

    def _sha256(self, path: str) -> str:
        with self._fs.open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _sizes(self, folder: str) -> dict[str, int]:
        """Bytes of the files in a folder of the registry, by their paths in it."""
        found = self._fs.find(folder, detail=True).items()
        return {path.removeprefix(f"{folder}/"): info["size"] for path, info in found}

    @contextmanager
    def _filling(self, bundle: Bundle, target: str) -> Iterator[str]:
        """Where to put the files of a bundle, the manifest last. If the block fails, there is
        none."""
        if self._local:
            # What another process has published meanwhile may be read already.
            with whole_folder(Path(target), lambda: self._held(bundle) is not None) as unfinished:
                yield str(unfinished)
            return
        # An object store renames nothing: that would be a copy of one file after another, in
        # whatever order.
        self._fs.makedirs(target, exist_ok=True)
        if self._fs.exists(f"{target}/{MANIFEST}"):
            self._fs.rm_file(f"{target}/{MANIFEST}")
        try:
            yield target
        except BaseException:
            with suppress(Exception):  # with the network gone too; the error says why it failed
                self._fs.rm(target, recursive=True)
            raise

    def _open(self, ref: str) -> Bundle:
        folder = self._folder(ref)
        if self._local:
            bundle = Bundle.open(Path(folder))
        else:
            path = self._cache.path(ref)
            self._cache.mark([ref])
            try:
                bundle = Bundle.open(path)
            except InvalidBundle:  # not fetched yet, or damaged since, here or there
                self._fetch(folder, path)
                bundle = Bundle.open(path)
        if bundle.ref != ref:
            raise InvalidBundle(f"{shown(folder)} holds {bundle.ref}, not {ref}. Publish it anew.")
        return bundle

    def _fetch(self, folder: str, path: Path) -> None:
        with whole_folder(path) as unfinished:
            self._fs.get(f"{folder}/", str(unfinished), recursive=True)
            # Else a connection that was cut would pass for a bundle that is damaged there.
            for name, size in self._sizes(folder).items():
                file = unfinished / name
                copied = file.stat().st_size if file.is_file() else 0
                if copied != size:
                    raise Unavailable(
                        f"Of {shown(folder)}/{name} {copied} of {size} bytes came. Try again; "
                        "sidecars do."
                    )


def _alike(served: Manifest, new: Manifest) -> bool:
    """Whether one is asked where the other is."""
    languages = not served.languages or not new.languages
    return (
        served.kind == new.kind
        and (languages or not set(served.languages).isdisjoint(new.languages))
        and _encoder(served) == _encoder(new)
    )


def _encoder(manifest: Manifest) -> str:
    """Whose vectors a personal ranker reads."""
    return manifest.personal.encoder if manifest.personal else ""
