"""Reads a folder with an image encoder as Hugging Face's exporters leave it: an ONNX graph from
pixels to one vector a photo, and what is done to a photo before."""

from pathlib import Path
from typing import Any, Final

import onnx
from onnx import TensorProto, helper

from neuralrank.encoders.image_encoder import ALIKE
from neuralrank.errors import InvalidInput
from neuralrank.models.hugging_face import read_json
from neuralrank.onnx_file import read_onnx

__all__ = ["PREPROCESSOR", "holds_image_encoder", "read_image_folder"]

PREPROCESSOR: Final = "preprocessor_config.json"
# A model of texts and photos is exported as two graphs; this is the one of photos.
_GRAPHS: Final = ("onnx/vision_model.onnx", "vision_model.onnx", "onnx/model.onnx", "model.onnx")
# One vector a photo, by the names that exporters give it; the first that is there.
_OUTPUTS: Final = ("image_embeds", "pooler_output", "embeddings", "sentence_embedding")
_RESCALE: Final = 1 / 255


def holds_image_encoder(folder: Path) -> bool:
    """Whether a folder says of itself that its model reads photos and no texts."""
    return (folder / PREPROCESSOR).is_file() and not (folder / "tokenizer.json").is_file()


def read_image_folder(folder: Path) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph, to vectors of length 1, and the manifest's fields that the folder knows.

    Raises:
        InvalidInput: the folder holds no image encoder that can be used; the message says what was
            looked for.
    """
    graphs = [folder / name for name in _GRAPHS if (folder / name).is_file()]
    if not graphs or not (folder / PREPROCESSOR).is_file():
        raise InvalidInput(
            f"{folder} is no image encoder: needed are {PREPROCESSOR} and one of "
            f"{', '.join(_GRAPHS)}. Export the model's photo part to ONNX, for example with "
            "optimum (`optimum-cli export onnx`)."
        )
    image = _inputs(folder, read_json(folder / PREPROCESSOR))
    model = read_onnx(graphs[0])
    given = [entry for entry in model.graph.input if entry.name not in _constants(model)]
    if len(given) != 1 or len(given[0].type.tensor_type.shape.dim) != 4:
        raise InvalidInput(
            f"{graphs[0]} has the inputs {[entry.name for entry in given]}; an image encoder has "
            "one, of pixels. Of a model of texts and photos export the photo part alone."
        )
    output = _output(model, graphs[0])
    width = output.type.tensor_type.shape.dim[-1].dim_value
    del model.graph.output[:]
    model.graph.node.append(
        helper.make_node("LpNormalization", [output.name], ["vectors"], axis=-1, p=2)
    )
    model.graph.output.append(
        helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", width])
    )
    fields = {"kind": "image_encoder", "dimensions": width, "normalized": True, "image": image}
    return model, {**fields, "item_similarity": ALIKE}


def _constants(model: onnx.ModelProto) -> set[str]:
    """Old exporters list weights among the inputs."""
    return {tensor.name for tensor in model.graph.initializer}


def _output(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    found = {
        entry.name: entry
        for entry in model.graph.output
        if len(entry.type.tensor_type.shape.dim) == 2
        and entry.type.tensor_type.shape.dim[-1].dim_value > 0
    }
    named = next((name for name in _OUTPUTS if name in found), next(iter(found), ""))
    if not named:
        raise InvalidInput(
            f"{path} has the outputs {[entry.name for entry in model.graph.output]}, and none is "
            "one vector a photo, [n, width]. Export it with its pooling or projection."
        )
    return found[named]


def _inputs(folder: Path, said: dict[str, Any]) -> dict[str, Any]:
    """The manifest's `image`."""
    rescale = said.get("rescale_factor", _RESCALE)
    if said.get("do_rescale", True) is False or abs(rescale - _RESCALE) > 1e-6:
        raise InvalidInput(
            f"{folder / PREPROCESSOR}: rescale_factor is {rescale}; only 1/255 can be used."
        )
    cut = said.get("do_center_crop", False)
    size = said.get("crop_size" if cut else "size", said.get("size"))
    sides = set(size.values()) if isinstance(size, dict) else {size}
    if len(sides) != 1 or not all(isinstance(side, int) for side in sides):
        raise InvalidInput(
            f"{folder / PREPROCESSOR}: the size is {size}; only squares of one size can be used."
        )
    normal = said.get("do_normalize", True)
    try:
        mean, std = (
            tuple(map(float, said.get(name, default))) if normal else default
            for name, default in (("image_mean", (0.0,) * 3), ("image_std", (1.0,) * 3))
        )
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{folder / PREPROCESSOR}: image_mean, image_std: {error}.") from error
    side = int(sides.pop() or 0)
    inputs: dict[str, Any] = {"size": side, "mean": mean, "std": std}
    inputs["fit"] = "crop" if cut else "stretch"
    # What is cut to a square was first resized by its shorter side, often to more than the square.
    before = _shorter_side(said.get("size")) if cut and said.get("do_resize", True) else 0
    return inputs | ({"resize": before} if before > side else {})


def _shorter_side(size: Any) -> int:
    """Of what a photo is resized to; 0 where that is not told."""
    sides = size.values() if isinstance(size, dict) else [size]
    return min((side for side in sides if isinstance(side, int)), default=0)
