"""The rows of a fit: fetched in batches, and with paired online synthesis drawn afresh in every epoch.

A network memorises few rows soon. With `training.twins`, every normal row therefore comes as a pair in each epoch: the
image, and the same image with a new anomaly drawn by the rules of `synthesis`. Half of all rows also vary by the
augmentation policy, the same one as in the table. Rows that come as single images (abnormal ones, and normal ones on
which no anomaly shows) are varied and encoded as pairs are: the classes differ by the anomaly alone.

The mask of a single abnormal row does not move along when the row varies. It is then unknown, and the row teaches the
image's head only.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from cygnet.model.network import hardware
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.network.threads import core_count
from cygnet.model.training.examples import Batch, Examples, batch_of_pairs
from cygnet.model.training.settings import PairedSynthesis
from cygnet.parameters.synthesis import Synthesis
from cygnet.tables import ABNORMAL, NORMAL
from cygnet.vision.codec import decode_mask
from cygnet.vision.paired_synthesis import draw_as_synthesis, make_pair_inside, vary_alone
from cygnet.vision.rng import generator
from cygnet.vision.transforms import Policy

VARIED_FRAC = 0.5
"""Share of the rows that vary; the others are only encoded once more."""
MOST_PROCESSES = 16
"""Upper bound on worker processes: 15 fetch 6,000 images/s of 224 px, and the largest GPUs fit 3,400 of a ViT-Base."""


class TrainingRows(Dataset[Batch]):
    """Rows of memory-mapped examples, fetched a batch at a time; with `pairs`, normal rows as pairs.

    What is drawn follows from seed, epoch and the row's index, whichever process fetches it.
    """

    def __init__(self, examples: Examples, pairs: PairedSynthesis | None) -> None:
        self.examples, self.pairs = examples, pairs
        self.normal = (examples.labels == NORMAL).numpy().nonzero()[0]  # indices
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # worker processes see it change

    def __len__(self) -> int:
        return len(self.examples.labels)

    def set_epoch(self, epoch: int) -> None:
        """Draw for this epoch from now on, in worker processes too."""
        self._epoch.fill_(epoch)

    def labels(self) -> torch.Tensor:
        """Return the labels of all images of an epoch, `(N,)` int64, as if every normal row came as a pair."""
        abnormal = torch.full((len(self.normal) if self.pairs else 0,), ABNORMAL)
        return torch.cat([self.examples.labels, abnormal])

    def __getitems__(self, indices: list[int]) -> Batch:
        """Fetch rows: first all pairs, each normal image before its abnormal one, then all single images."""
        preprocessing = self.examples.preprocessing
        if self.pairs is None or preprocessing is None:
            return self.examples.take(torch.tensor(indices))
        pairs, singles = [], []
        for index in indices:
            rng = generator(self.pairs.seed, "twins", int(self._epoch), index)
            policy = self.pairs.policy if rng.random() < VARIED_FRAC else None
            pair = self._draw_pair(rng, index, self.pairs.synthesis, policy)
            if pair is None:
                singles.append(self._vary_single(rng, index, preprocessing, policy))
            else:
                pairs.append(pair)
        parts = [batch_of_pairs(pairs, preprocessing, self.examples.coverage.shape[-1])] if pairs else []
        if singles:
            parts.append(_stack(singles))
        images, labels, coverage = (torch.cat(part) for part in zip(*parts, strict=True))
        return images, labels, coverage

    def _draw_pair(
        self, rng: np.random.Generator, index: int, synthesis: Synthesis, policy: Policy | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Draw a pair of a normal row; None for another row, and where no anomaly shows.

        The donor is another frame, if there is one.
        """
        if self.examples.labels[index] != NORMAL:
            return None
        others = self.normal[self.examples.frames[self.normal] != self.examples.frames[index]]
        donor = self.examples.images[int(rng.choice(others if len(others) else self.normal))].numpy()
        image = self.examples.images[index].numpy()
        return make_pair_inside(rng, image, self._area(index), draw_as_synthesis(synthesis, donor), policy)

    def _area(self, index: int) -> np.ndarray:
        """Give what of an image is looked at: `(H, H)` uint8, 255 inside."""
        areas = self.examples.areas
        encoded = areas[index] if areas else None
        return decode_mask(encoded) if encoded else np.full(self.examples.images.shape[1:3], 255, np.uint8)

    def _vary_single(
        self, rng: np.random.Generator, index: int, preprocessing: Preprocessing, policy: Policy | None
    ) -> Batch:
        """Vary one image; return it with its label and coverage, without the batch dimension."""
        image = preprocessing.resize(vary_alone(rng, self.examples.images[index].numpy(), policy))
        label, coverage = self.examples.labels[index], self.examples.coverage[index]
        if policy is not None and label != NORMAL:
            coverage = torch.full_like(coverage, torch.nan)
        return torch.from_numpy(image), label, coverage


def make_loader(rows: TrainingRows, images_at_once: int, device: torch.device) -> DataLoader[Batch]:
    """Load rows in a shuffled order; for a GPU, in processes of their own if there is room for what they hand over."""
    processes = worker_processes() if device.type == "cuda" and hardware.has_shared_memory() else {}
    return DataLoader(rows, batch_size=images_at_once, shuffle=True, collate_fn=_as_fetched, **processes)


def worker_processes() -> dict[str, Any]:
    """Return the arguments by which a DataLoader fetches rows in processes of their own, the same ones in all epochs.

    They are forked, which gives them the memory-mapped files too. In a forked process OpenCV would wait forever for the
    threads of its parent: from here on it has none.
    """
    cv2.setNumThreads(0)
    return {
        "num_workers": min(max(core_count() - 1, 1), MOST_PROCESSES),
        "multiprocessing_context": "fork",
        "persistent_workers": True,
        "pin_memory": torch.cuda.is_available(),
    }


def _as_fetched(batch: Any) -> Any:
    """Collate nothing: `__getitems__` returns whole batches."""
    return batch


def _stack(singles: Sequence[Batch]) -> Batch:
    images, labels, coverage = (torch.stack(part) for part in zip(*singles, strict=True))
    return images, labels, coverage
