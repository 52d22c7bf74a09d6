"""TensorRT in parts: there and back, and what is missing or damaged is named."""

import zipfile
from pathlib import Path

import pytest

from bench import carry


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    libraries = tmp_path / "redist" / "linux-x86_64"
    libraries.mkdir(parents=True)
    for number, name in enumerate(carry.NEEDED):
        (libraries / f"{name}10").write_bytes(bytes(range(256)) * 40 * (number + 1))
    wheel = tmp_path / "bindings.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tensorrt_bindings/__init__.py", "version = '10.6.0'\n")
    return tmp_path / "redist", wheel


def test_what_is_packed_in_parts_is_joined_beside_the_bindings(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    names = carry.pack(*sources, tmp_path / "parts", part=200)
    assert len(names) > 2
    assert {f.stat().st_size for f in (tmp_path / "parts").glob("part-*")} >= {200}
    assert sorted(f.name for f in (tmp_path / "parts").iterdir()) == [*names, carry.LIST]
    carry.join(tmp_path / "parts", tmp_path / "target")
    bindings = tmp_path / "target" / "tensorrt_bindings"
    assert (bindings / "__init__.py").read_text() == "version = '10.6.0'\n"
    for library in sources[0].rglob("*.so*"):
        assert (bindings / library.name).read_bytes() == library.read_bytes()


def test_a_part_that_is_damaged_or_missing_is_named(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    carry.pack(*sources, parts, part=200)
    (parts / "part-001").write_bytes(b"x" * 200)
    with pytest.raises(SystemExit, match="part-001 is damaged"):
        carry.join(parts, tmp_path / "target")
    (parts / "part-001").unlink()
    with pytest.raises(SystemExit, match="part-001 is missing"):
        carry.join(parts, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_folder_without_the_builders_kernels_is_refused(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    next(sources[0].rglob("libnvinfer_builder_resource*")).unlink()
    with pytest.raises(SystemExit, match="lacks libnvinfer_builder_resource"):
        carry.pack(*sources, tmp_path / "parts")


def test_a_wheel_without_the_bindings_is_refused(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("other/__init__.py", "")
    with pytest.raises(SystemExit, match="holds no tensorrt_bindings"):
        carry.pack(sources[0], tmp_path / "other.whl", tmp_path / "parts")
