"""Carries TensorRT to a machine without a network, in parts that fit through what there is.

    python bench/carry.py pack LIBRARIES BINDINGS.whl FOLDER   # here
    python bench/carry.py join FOLDER TARGET                   # there: PYTHONPATH=TARGET

LIBRARIES is a folder with libnvinfer.so.10, its builder resource, the parser and the plugin
library; the wheel holds `tensorrt_bindings`. docs/decisions/014-tensorrt.md says where to get them.
Only the standard library is used, so that `join` runs with nothing installed.
"""

import argparse
import hashlib
import json
import lzma
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PART = 58 * 2**20
LIST = "parts.json"
NEEDED = ("libnvinfer.so.", "libnvinfer_builder_resource.so.", "libnvonnxparser.so.")


def pack(libraries: Path, wheel: Path, folder: Path, part: int = PART) -> list[str]:
    """Writes the parts, and the list of their SHA-256; gives back the parts' names.

    Raises:
        SystemExit: a library or the bindings are missing.
    """
    files = sorted(file for file in libraries.rglob("*.so*") if file.is_file())
    names = [file.name for file in files]
    missing = [need for need in NEEDED if not any(name.startswith(need) for name in names)]
    if missing:
        sys.exit(f"{libraries} lacks {', '.join(f'{name}*' for name in missing)}.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        root = Path(temporary) / "root"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)
        bindings = root / "tensorrt_bindings"
        if not bindings.is_dir():
            sys.exit(f"{wheel} holds no tensorrt_bindings: it is not the wheel of the bindings.")
        for file in files:
            shutil.copyfile(file, bindings / file.name)
        packed = Path(temporary) / "all.tar.xz"
        # A large dictionary: kernels of one kind lie far from each other.
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 2**27}]
        with (
            lzma.open(packed, "wb", filters=filters) as stream,
            tarfile.open(fileobj=stream, mode="w") as tar,
        ):
            tar.add(root, arcname=".")
        hashes: dict[str, str] = {}
        with packed.open("rb") as stream:
            while content := stream.read(part):
                name = f"part-{len(hashes):03}"
                (folder / name).write_bytes(content)
                hashes[name] = hashlib.sha256(content).hexdigest()
    (folder / LIST).write_text(json.dumps(hashes, indent=2) + "\n")
    return list(hashes)


def join(folder: Path, target: Path) -> None:
    """Verifies every part, then unpacks them.

    Raises:
        SystemExit: a part is missing or damaged; the message names it.
    """
    hashes: dict[str, str] = json.loads((folder / LIST).read_text())
    for name, expected in hashes.items():
        file = folder / name
        if not file.is_file():
            sys.exit(f"{file} is missing; {LIST} names {len(hashes)} parts.")
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                sys.exit(f"{file} is damaged; bring it again.")
    with tempfile.TemporaryFile() as whole:
        for content in _contents(folder, hashes):
            whole.write(content)
        whole.seek(0)
        _unpack(whole, target)


def _contents(folder: Path, names: dict[str, str]) -> Iterator[bytes]:
    for name in names:
        yield (folder / name).read_bytes()


def _unpack(packed: IO[bytes], target: Path) -> None:
    with lzma.open(packed) as stream, tarfile.open(fileobj=stream) as tar:
        tar.extractall(target, filter="data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    steps = parser.add_subparsers(dest="step", required=True)
    packing = steps.add_parser("pack")
    for name in ("libraries", "wheel", "folder"):
        packing.add_argument(name, type=Path)
    joining = steps.add_parser("join")
    for name in ("folder", "target"):
        joining.add_argument(name, type=Path)
    given = parser.parse_args()
    if given.step == "pack":
        names = pack(given.libraries, given.wheel, given.folder)
        print(f"{len(names)} parts and {LIST} are in {given.folder}")
    else:
        join(given.folder, given.target)
        print(f"Use it with PYTHONPATH={given.target}")


if __name__ == "__main__":
    main()
