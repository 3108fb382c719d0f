"""Blocks that are not fitted, run in the fastest way that this machine has.

On a processor without bfloat16 that is ONNX Runtime: blocks of DINOv2-S take half the time that they take in torch.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import normalize

from cygnet.model.network import hardware
from cygnet.model.network.detector import Detector, take_patches

RunBlocks = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
"""From `(B, S, S, 3)` uint8 RGB to the outputs of some blocks, on the CPU."""


class FirstBlocks(torch.nn.Module):
    """What `Detector.run_blocks` gives for the first `count` blocks: tokens, and features for `normality`."""

    outputs = ("tokens", "features")

    def __init__(self, detector: Detector, count: int) -> None:
        super().__init__()
        self.detector, self.count = detector, count

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take `(B, S, S, 3)` uint8 RGB; return `(B, T, D)` and `(B, G * G, D)`."""
        return self.detector.run_blocks(images, self.count)


class PatchDirections(torch.nn.Module):
    """The patches after each of some blocks, in ascending order, as unit vectors: `(B, G * G, D)` float32 each."""

    def __init__(self, detector: Detector, blocks: Sequence[int]) -> None:
        super().__init__()
        self.detector, self.ends = detector, blocks
        self.outputs = tuple(f"block_{end}" for end in blocks)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take `(B, S, S, 3)` uint8 RGB; return a tensor for each of the blocks."""
        tokens, done = self.detector.run_blocks(images, 0)[0], 0  # (B, T, D)
        directions = []
        for end in self.ends:
            for block in self.detector.blocks[done:end]:
                tokens = block(tokens)
            directions.append(normalize(take_patches(tokens).float(), dim=-1))
            done = end
        return tuple(directions)


def block_runner(blocks: FirstBlocks | PatchDirections) -> RunBlocks:
    """Make the fastest function of this machine that computes what blocks give.

    Args:
        blocks: Their detector is moved to the device of fits.
    """
    device, has_bf16 = hardware.select_device(), hardware.has_bf16()
    blocks.detector.to(device).eval()
    if device.type == "cpu" and not has_bf16:
        from cygnet.model.serving.export import export_blocks
        from cygnet.model.serving.onnx_runtime import image_runner

        run_images = image_runner(export_blocks(blocks), [*blocks.outputs])

        def run_onnx(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(torch.from_numpy(output) for output in run_images(images.numpy()))

        return run_onnx

    @torch.no_grad()  # tokens made in inference mode could not be fitted on
    def run_torch(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bf16):
            return tuple(output.cpu() for output in blocks(images.to(device)))

    return run_torch
