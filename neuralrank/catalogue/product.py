"""What a product is: one row of a catalogue, one document of an index, two texts for the models.

`Product` validates a row, `document` is what goes into the index, `headline` is the text that an
encoder reads and `passage` the one that a cross-encoder reads. Both give the same text from a row
and from an index `_source`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from neuralrank.catalogue.markup import plain_text
from neuralrank.errors import InvalidInput
from neuralrank.text.cleaning import beginning, clean
from neuralrank.validation import of_part, problems, short

__all__ = [
    "MAX_ID_BYTES",
    "PASSAGE_FIELDS",
    "Attribute",
    "NoProduct",
    "Product",
    "attributes_text",
    "document",
    "headline",
    "passage",
    "strings",
]

# One value of an attribute, or several. A list may mix them.
Scalar = str | bool | int | float
Attribute = Scalar | list[Scalar]

# The `_source` fields that `passage` reads, for callers that fetch only what they need.
PASSAGE_FIELDS: Final = (
    "title",
    "brand",
    "category",
    "color",
    "attributes",
    "bullet_points",
    "description",
)

# OpenSearch's own limit of an `_id`, in UTF-8 bytes.
MAX_ID_BYTES: Final = 512
# Lucene refuses a term above 32,766 bytes; an attribute's term is its path and value.
_MAX_ATTRIBUTE_CHARACTERS: Final = 8000
# No text of a product is meant to be longer, and no model reads so much.
_MAX_TEXT_CHARACTERS: Final = 200_000


class NoProduct(InvalidInput):
    """A row that is no product. The message names each wrong field, what was received and what is
    allowed.

    Attributes:
        kinds: of each problem field and what is allowed, alike in all rows that have it.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        every = tuple(problems)
        super().__init__("; ".join(every))
        self.kinds = tuple(map(_kind, every))


class Product(BaseModel):
    """One product. Fields that are not named here are taken as attributes.

    Only `id` and `title` are required. A blank string, an empty list and null all mean "not known",
    also within a list, where they are left out. `bullet_points` may be a list (joined by line
    breaks), `category` a list from general to special or a string such as "Home > Kitchen >
    Kettles", a number may stand for a string (1001.0 for "1001"), and in `in_stock` for how many
    there are. Of HTML in `description` and `bullet_points` the text is kept.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", coerce_numbers_to_str=True, str_strip_whitespace=True
    )

    id: str = Field(min_length=1)
    title: str = Field(min_length=1, max_length=_MAX_TEXT_CHARACTERS)
    description: str | None = Field(default=None, max_length=_MAX_TEXT_CHARACTERS)
    bullet_points: str | None = Field(default=None, max_length=_MAX_TEXT_CHARACTERS)
    brand: str | None = Field(default=None, max_length=1000)
    category: tuple[str, ...] = ()
    attributes: dict[str, Attribute] = Field(default_factory=dict)
    color: str | None = Field(default=None, max_length=1000)
    price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    currency: str | None = Field(default=None, max_length=16)
    # Where the photo is: a path relative to the catalogue, or an address.
    image: str | None = None
    image_url: str | None = None
    rating: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    rating_count: int | None = Field(default=None, ge=0, le=2**31 - 1)
    in_stock: bool | None = None
    # BCP 47 primary subtag, such as "en" or "zh".
    language: str | None = Field(default=None, max_length=35)

    @classmethod
    def from_row(cls, row: object) -> Self:
        """The product of a catalogue row.

        Raises:
            NoProduct: the row is none.
        """
        if not isinstance(row, Mapping):
            raise NoProduct([f"row: got {short(row)}; it must be an object with id and title"])
        try:
            return cls.model_validate(dict(row))
        except ValidationError as error:
            raise NoProduct(problems(error, "row")) from error

    @model_validator(mode="before")
    @classmethod
    def _unknown_fields_are_attributes(cls, row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        known = {
            name: _plain(_known(value)) for name, value in row.items() if name in cls.model_fields
        }
        known = {name: value for name, value in known.items() if value is not None}
        unknown = {str(name): value for name, value in row.items() if name not in cls.model_fields}
        attributes = known.get("attributes", {})
        if isinstance(attributes, dict):
            known["attributes"] = {**unknown, **attributes}
        return known

    @field_validator("id")
    @classmethod
    def _id_fits_opensearch(cls, value: str) -> str:
        if (size := len(value.encode())) > MAX_ID_BYTES:
            raise ValueError(f"input has {size} bytes; at most {MAX_ID_BYTES} are allowed")
        return value

    @field_validator("bullet_points", mode="before")
    @classmethod
    def _lines(cls, value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            return "\n".join(value)
        return value

    @field_validator("description", "bullet_points")
    @classmethod
    def _without_tags(cls, value: str | None) -> str | None:
        return plain_text(value or "").strip() or None

    @field_validator("category", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        parts = value.split(">") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
            raise ValueError('must be a list of strings or a string such as "Home > Kettles"')
        return tuple(part.strip() for part in parts if part.strip())

    @field_validator("price", mode="before")
    @classmethod
    def _amount(cls, value: Any) -> Any:
        if isinstance(value, str) and _number(value) is None:
            raise ValueError(
                "input should be a valid number, without currency or separators of thousands, such "
                "as 1299.00"
            )
        return value

    @field_validator("in_stock", mode="wrap")
    @classmethod
    def _any_left(cls, value: Any, truth: ValidatorFunctionWrapHandler) -> Any:
        """Of how many there are, whether there are any; the plugin reads an index alike."""
        if (count := _number(value)) is not None:
            return count > 0
        try:
            return truth(value)
        except ValidationError:
            raise ValueError("input should be true or false, or how many there are") from None

    @field_validator("attributes", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("must be an object of name and value")
        return dict(_flatten(value))


def document(product: Product) -> dict[str, Any]:
    """The index document, without vectors. What is not known is left out."""
    fields: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name in Product.model_fields
        if (value := getattr(product, name)) not in (None, "", (), {})
    }
    if text := attributes_text(product.attributes):
        fields["attributes_text"] = text
    return fields


def attributes_text(attributes: Mapping[str, Any]) -> str:
    """The values of all attributes, one a line, for text search; a true one gives its name.

    Other names are left out: they are the same for many products, say little, and make the field
    long (measured on Icecat: nDCG@10 0.67 with them, 0.69 without).
    """
    return "\n".join(
        _words(name) if value is True else _value_text(value)
        for name, value in attributes.items()
        if value is not False
    )


def headline(item: Product | Mapping[str, Any]) -> str:
    """What an item is, for the encoder: title and brand.

    A vector of everything that is said of a product is near to everything: with attributes and
    descriptions in the text, ranking got worse on two of three sets, and encoding took several
    times as long (docs/decisions/005-encoder-text.md).
    """
    title, brand, *_ = _head(document(item) if isinstance(item, Product) else item)
    return clean(f"{title}\n{brand}" if brand else title)


def passage(item: Product | Mapping[str, Any], characters: int = 1000) -> str:
    """The text that a cross-encoder reads of an item: what it is first, then what describes it.

    Args:
        item: a product, or an index `_source` with `PASSAGE_FIELDS`.
        characters: the longest text; it ends at a word where the script has spaces.
    """
    source = document(item) if isinstance(item, Product) else item
    parts = [
        *_head(source),
        "; ".join(_attribute_lines(source.get("attributes"))),
        "\n".join(strings(source.get("bullet_points"))),
        "\n".join(strings(source.get("description"))),
    ]
    # One more, which tells that there is more.
    text = beginning("\n".join(part for part in parts if part), characters + 1)
    if len(text) <= characters:
        return text
    cut = text[:characters]
    space = cut.rfind(" ")
    # A word cut in half misleads a model; a script without spaces has nothing to cut back to.
    return cut[:space] if space > characters - 40 else cut


def strings(value: Any) -> list[str]:
    """What a field of a document holds, as texts, whatever its shape: an index may be one that
    others write. The plugin reads fields alike."""
    if isinstance(value, str):
        return [value] if value and not value.isspace() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [text for one in value for text in strings(one)]
    if isinstance(value, bool):
        return [str(value).lower()]
    return [] if value is None else [str(_plain(value))]


def _head(source: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Title, brand, category and color; empty what the title says already."""
    title = " ".join(strings(source.get("title")))
    brand, color = (
        value if value.casefold() not in title.casefold() else ""
        for value in (", ".join(strings(source.get(name))) for name in ("brand", "color"))
    )
    return title, brand, " > ".join(strings(source.get("category"))), color


def _flatten(values: Mapping[Any, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Attributes with nested names joined by a dot, without the ones that are not known."""
    for key, given in values.items():
        value = _known(given)
        if value is None or value == {}:
            continue
        # A dot in a name would be read as nesting, and an empty name is refused by OpenSearch.
        part = str(key).strip().strip(".")
        name = f"{prefix}{part}"
        if not part:
            raise of_part(name or "attributes", f"got {short(value)} without a name; name it")
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}.")
            continue
        for scalar in value if isinstance(value, list) else [value]:
            _check_scalar(name, scalar)
        yield name, list(map(_plain, value)) if isinstance(value, list) else _plain(value)


def _known(value: Any) -> Any:
    """The value without nulls and blanks, also within a list; None if nothing is left."""
    if isinstance(value, list):
        return [one for one in map(_known, value) if one is not None] or None
    return None if isinstance(value, str) and not value.strip() else value


def _plain(value: Any) -> Any:
    """230.0, as tables with gaps have it, is 230: a person writes it so in a query or a rule."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value


def _number(value: Any) -> float | None:
    """What a number, or a text that is one, stands for; None where it is neither."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def _check_scalar(name: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise of_part(name, f"got {value}; a number must be finite")
    if not isinstance(value, str | bool | int | float):
        raise of_part(
            name, f"got {short(value)}; allowed are strings, numbers, booleans and lists of them"
        )
    if isinstance(value, str) and len(value) > _MAX_ATTRIBUTE_CHARACTERS:
        raise of_part(
            name,
            f"has {len(value)} characters; at most {_MAX_ATTRIBUTE_CHARACTERS} are allowed. "
            "Put long text into description",
        )


def _attribute_lines(attributes: Any) -> Iterable[str]:
    """Name and value of each; a true one gives its name, a false one nothing."""
    for name, value in attributes.items() if isinstance(attributes, Mapping) else ():
        if value is not False:
            yield _words(name) if value is True else f"{_words(name)} {_value_text(value)}"


def _words(name: str) -> str:
    return name.replace("_", " ").replace(".", " ")


def _value_text(value: Any) -> str:
    return ", ".join(map(_value_text, value)) if isinstance(value, list) else str(_plain(value))


def _kind(problem: str) -> str:
    """Without what was received, which differs from row to row."""
    field, _, said = problem.partition(": ")
    return f"{field}: {said.rpartition('; ')[2]}"
