"""Image encoders from folders, as exporters leave them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from transformers import BitImageProcessorPil, ViTConfig, ViTModel

from neuralrank.bundles.bundle import ImageInputs
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.image_encoder import ImageEncoder
from neuralrank.encoders.pictures import read_picture
from neuralrank.errors import InvalidInput
from neuralrank.models import add
from neuralrank.models.image_folder import holds_image_encoder, read_image_folder
from tests.unit.encoders.test_pictures import GREEN, file, plain

SAID: dict[str, Any] = {
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "size": {"height": 32, "width": 32},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}


def export(folder: Path, outputs: dict[str, list[Any]], inputs: int = 1) -> None:
    """A graph by hand: the mean colour, repeated, for each output of the given shape."""
    names = ["pixel_values", "input_ids"][:inputs]
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in names
    ]
    nodes = [helper.make_node("ReduceMean", ["pixel_values", "sides"], ["mean"], keepdims=0)]
    nodes += [helper.make_node("Mul", ["mean", f"by.{name}"], [name]) for name in outputs]
    scales = [
        numpy_helper.from_array(np.array(number + 1, np.float32), f"by.{name}")
        for number, name in enumerate(outputs)
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        given,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.array([2, 3]), "sides"), *scales],
    )
    (folder / "onnx").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / "onnx" / "model.onnx"))
    (folder / "preprocessor_config.json").write_text(json.dumps(SAID))


def test_a_transformer_of_photos_serves_as_it_was_trained(tmp_path: Path) -> None:
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    torch.manual_seed(1)
    model = ViTModel(config).eval()

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, pixel_values: torch.Tensor) -> Any:
            return self.inner(pixel_values).pooler_output

    folder = tmp_path / "vit"
    folder.mkdir()
    exported = torch.onnx.export(
        Pooled().eval(), (torch.zeros(2, 3, 32, 32),), input_names=["pixel_values"],
        output_names=["pooler_output"], dynamo=True, verbose=False,
        dynamic_shapes={"pixel_values": {0: torch.export.Dim("n")}},
    )  # fmt: skip
    assert exported is not None
    exported.save(str(folder / "model.onnx"))
    (folder / "preprocessor_config.json").write_text(json.dumps(SAID))
    bundle = add(Registry(str(tmp_path / "models")), str(folder))
    assert bundle.manifest.kind == "image_encoder"
    assert bundle.manifest.name == "vit"
    assert bundle.manifest.dimensions == 32
    encoder = ImageEncoder.load(bundle, threads=1)
    photo = plain((32, 32), GREEN)
    photo.paste((10, 20, 200), (4, 4, 20, 30))
    (found,) = encoder.encode(encoder.read([file(photo)]))
    pixels = (np.asarray(photo, np.float32) / 255 - SAID["image_mean"]) / SAID["image_std"]
    with torch.no_grad():
        tensor = torch.from_numpy(pixels.astype("f4").transpose(2, 0, 1)[None])
        expected = Pooled()(tensor).numpy()[0]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-4)


def test_the_output_that_is_one_vector_a_photo_is_taken(tmp_path: Path) -> None:
    export(tmp_path, {"last_hidden_state": ["n", 5, 3], "image_embeds": ["n", 3]})
    model, fields = read_image_folder(tmp_path)
    assert [output.name for output in model.graph.output] == ["vectors"]
    assert fields["dimensions"] == 3
    assert fields["image"] == {
        "size": 32, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "fit": "stretch",
    }  # fmt: skip


def test_what_a_photo_is_cut_to_is_what_the_model_reads(tmp_path: Path) -> None:
    export(tmp_path, {"image_embeds": ["n", 3]})
    said = {**SAID, "size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 32}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    found = read_image_folder(tmp_path)[1]["image"]
    assert (found["size"], found["fit"], found["resize"]) == (32, "crop", 40)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({**said, "size": {"shortest_edge": 32}})
    )
    assert "resize" not in read_image_folder(tmp_path)[1]["image"]


@pytest.mark.parametrize("size", [(512, 512), (600, 400), (300, 900)])
def test_a_photo_is_resized_and_cut_as_dinov2_does(tmp_path: Path, size: tuple[int, int]) -> None:
    export(tmp_path, {"image_embeds": ["n", 3]})
    said = {
        **SAID, "size": {"shortest_edge": 256}, "do_center_crop": True, "resample": 3,
        "crop_size": {"height": 224, "width": 224},
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    inputs = ImageInputs.model_validate(read_image_folder(tmp_path)[1]["image"])
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    circle = np.hypot(across - 127, down - 127)
    photo = Image.fromarray(np.stack([across, down, circle], -1).astype(np.uint8))
    expected = BitImageProcessorPil(**said)(photo, return_tensors="np")["pixel_values"][0]
    found = read_picture(file(photo), inputs).pixels
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"size": {"height": 32, "width": 64}}, "only squares"),
        ({"size": None}, "only squares"),
        ({"rescale_factor": 1 / 127.5}, "only 1/255"),
        ({"do_rescale": False}, "only 1/255"),
        ({"image_mean": "x"}, "image_mean"),
    ],
)
def test_what_can_not_be_done_to_a_photo_is_refused(
    tmp_path: Path, said: dict[str, Any], words: str
) -> None:
    export(tmp_path, {"image_embeds": ["n", 3]})
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**SAID, **said}))
    with pytest.raises(InvalidInput, match=words):
        read_image_folder(tmp_path)


def test_other_folders_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"needed are preprocessor_config\.json and one of"):
        read_image_folder(tmp_path)
    export(tmp_path / "texts", {"image_embeds": ["n", 3]}, inputs=2)
    with pytest.raises(InvalidInput, match="export the photo part alone"):
        read_image_folder(tmp_path / "texts")
    export(tmp_path / "tokens", {"last_hidden_state": ["n", 5, 3]})
    with pytest.raises(InvalidInput, match="none is one vector a photo"):
        read_image_folder(tmp_path / "tokens")


def test_a_folder_with_a_tokenizer_is_one_of_texts_unless_it_is_said(tmp_path: Path) -> None:
    export(tmp_path, {"image_embeds": ["n", 3]})
    assert holds_image_encoder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert not holds_image_encoder(tmp_path)
    registry = Registry(str(tmp_path / "models"))
    bundle = add(registry, str(tmp_path), kind="image_encoder", name="both")
    assert bundle.manifest.kind == "image_encoder"
