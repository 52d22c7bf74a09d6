"""The model registry: published bundles under any path that fsspec understands.

    <registry>/<name>/<hash>/manifest.json …

Publishing copies to a temporary folder and then renames, so that a reader never sees half a bundle.
Bundles of a remote registry are copied to a local cache before they are opened.
"""

import shutil
import tempfile
import uuid
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from neuralrank.bundle import MANIFEST, Bundle, parse_ref
from neuralrank.errors import InvalidBundle, NotFound

__all__ = ["Registry"]


class Registry:
    """Published bundles, by name and hash."""

    def __init__(self, url: str, cache: Path | None = None) -> None:
        """
        Args:
            url: a local path, or a URL such as `s3://bucket/models`.
            cache: where bundles of a remote registry are kept; a folder of the system's temporary
                one by default.
        """
        self.url = url
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._local = isinstance(self._fs, LocalFileSystem)
        self._cache = cache or Path(tempfile.gettempdir()) / "neuralrank-bundles"

    def refs(self) -> list[str]:
        """`name@hash` of every published bundle, without opening any; cheap enough to poll."""
        self._fs.invalidate_cache()
        found = self._fs.glob(f"{self._root}/*/*/{MANIFEST}")
        parts = [path.split("/")[-3:-1] for path in found]
        return sorted(f"{name}@{digits}" for name, digits in parts if not digits.startswith("."))

    def list(self) -> list[Bundle]:
        """Every published bundle, verified, by name and then oldest first.

        Raises:
            InvalidBundle: one is damaged.
        """
        bundles = [self._open(ref) for ref in self.refs()]
        return sorted(bundles, key=lambda b: (b.manifest.name, b.manifest.created))

    def get(self, ref: str) -> Bundle:
        """The bundle of a `name@hash`, or the newest one of a `name`.

        Raises:
            NotFound: there is none; the message lists what there is.
            InvalidBundle: it is damaged.
        """
        name, digits = parse_ref(ref)
        refs = self.refs()
        matching = [
            r for r in refs if parse_ref(r)[0] == name and parse_ref(r)[1].startswith(digits)
        ]
        if not matching:
            known = ", ".join(refs) or "nothing; `neuralrank models add` puts bundles there"
            raise NotFound(f"No bundle {ref!r} in the registry {self.url}. There is: {known}.")
        return max((self._open(r) for r in matching), key=lambda b: b.manifest.created)

    def publish(self, bundle: Bundle) -> Bundle:
        """Copies a bundle into the registry; one that is there already is left as it is.

        Returns:
            The bundle in the registry.
        """
        target = f"{self._root}/{bundle.manifest.name}/{bundle.hash}"
        if not self._fs.exists(f"{target}/{MANIFEST}"):
            temporary = f"{self._root}/{bundle.manifest.name}/.{uuid.uuid4().hex}"
            self._fs.makedirs(temporary, exist_ok=True)
            for name in [*bundle.manifest.files, MANIFEST]:  # the manifest last
                self._fs.put_file(str(bundle.path / name), f"{temporary}/{name}")
            self._fs.mv(temporary, target, recursive=True)
        return self._open(bundle.ref)

    def _open(self, ref: str) -> Bundle:
        name, digits = parse_ref(ref)
        folder = f"{self._root}/{name}/{digits}"
        if self._local:
            path = Path(folder)
        else:
            path = self._cache / name / digits
            if not (path / MANIFEST).is_file():
                self._fetch(folder, path)
        bundle = Bundle.open(path)
        if bundle.ref != ref:
            raise InvalidBundle(f"{folder} holds {bundle.ref}, not {ref}. Publish it anew.")
        return bundle

    def _fetch(self, folder: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{uuid.uuid4().hex}"
        self._fs.get(folder, str(temporary), recursive=True)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
