"""A YAML file that knows on which line each of its values stands, so that a refusal can say it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuralrank.errors import InvalidInput, NotFound, Unsupported
from neuralrank.extras import install

__all__ = ["Located", "Place", "read_yaml"]

# Where a value stands: keys and positions in lists, from the top.
Place = tuple[str | int, ...]

_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
# No spec that a person writes has so many values; what repeats itself through aliases may.
_MOST_VALUES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Located:
    """What a file says, and where."""

    path: Path
    value: Any
    # From 1, by place.
    lines: Mapping[Place, int]

    def refusal(self, place: Place, words: str) -> InvalidInput:
        """The error for a value: file, line, what it is called there, what is wrong with it.

        Args:
            place: of the value; for one that is missing, where it would stand.
        """
        known = place
        while known not in self.lines and known:
            known = known[:-1]
        named = f"{called(place)}: " if place else ""
        return InvalidInput(f"{self.path}:{self.lines.get(known, 1)}: {named}{words}")


def called(place: Place) -> str:
    """ "variants[1].weights.relevance"."""
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return words.removeprefix(".")


def read_yaml(path: Path) -> Located:
    """
    Raises:
        NotFound: there is no such file.
        InvalidInput: it is not YAML, or a key comes twice; the message names the line.
        Unsupported: the extra `tune` is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise Unsupported(f"Tuning needs PyYAML: {install('tune')}.") from error
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} can't be read as UTF-8 text: {error}.") from error
    try:
        loader = yaml.SafeLoader(text)
        try:
            reader = _Reader(path, loader)
            node = loader.get_single_node()
            value = None if node is None else reader.read(node, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInput(f"{path}:{line}: this is not YAML: {error.problem}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInput(f"{path}: this is not YAML: {error}.") from error
    except RecursionError as error:
        raise InvalidInput(f"{path}: its values are nested too deep.") from error
    return Located(path, value, reader.lines)


class _Reader:
    """Makes plain values of YAML's nodes, and notes their lines."""

    def __init__(self, path: Path, loader: Any) -> None:
        self._path = path
        self._loader = loader
        self._above: list[Any] = []
        self.lines: dict[Place, int] = {}

    def read(self, node: Any, place: Place) -> Any:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if len(self.lines) > _MOST_VALUES or node in self._above:
            raise InvalidInput(
                f"{self._path}:{node.start_mark.line + 1}: more than {_MOST_VALUES:,} values; "
                "aliases (*name) repeat them. Write fewer."
            )
        if node.id == "scalar":
            if node.tag == _TIMESTAMP:
                return node.value  # as it is written: OpenSearch reads dates itself
            return self._loader.construct_object(node)
        self._above.append(node)
        try:
            if node.id == "sequence":
                return [self.read(each, (*place, i)) for i, each in enumerate(node.value)]
            return self._mapping(node, place)
        finally:
            self._above.pop()

    def _mapping(self, node: Any, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.id != "scalar":
                raise InvalidInput(f"{self._path}:{line}: a key must be a word.")
            # As it is written: YAML would read `on` as true.
            name = str(key.value)
            if name in found:
                raise InvalidInput(
                    f"{self._path}:{line}: the key {name!r} comes twice in "
                    f"{called(place) or 'the file'}. Keep one."
                )
            self.lines[(*place, name)] = line
            found[name] = self.read(value, (*place, name))
        return found
