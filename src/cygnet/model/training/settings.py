"""The parameters that fitting reads, and the key under which its state is saved; without torch, for the nodes."""

import json
from dataclasses import dataclass
from typing import Any

from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import Training
from cygnet.vision.transforms import Policy


@dataclass(frozen=True)
class PairedSynthesis:
    """How pairs are made of normal rows: which anomalies, how both images vary, and the seed of all draws."""

    synthesis: Synthesis
    policy: Policy
    seed: int


@dataclass(frozen=True)
class FitSettings:
    """The parameters that fitting reads."""

    training: Training
    synthesis: Synthesis
    policy: Policy

    @property
    def pairs(self) -> PairedSynthesis | None:
        """How pairs are made; None if rows come as they are, as with frozen blocks, whose output is computed once."""
        training, synthesis = self.training, self.synthesis
        if training.twins and training.fitted == "full" and any(synthesis.kinds.train.values()):
            return PairedSynthesis(synthesis, self.policy, training.seed)
        return None

    def key(self) -> str:
        """Return as JSON the values that the fitted weights depend on, and no others."""
        training, unread = self.training, {"score", "normality", "threshold", "evaluation"}
        if training.checkpoint is not None:
            unread.add("small_vit")
        if training.fitted != "last_blocks":
            unread.add("last_blocks")
        values: dict[str, Any] = {"training": training.model_dump(exclude=unread)}
        if self.pairs is not None:
            values["synthesis"] = self.synthesis.model_dump(exclude={"seeds": True, "kinds": {"validation", "test"}})
            values["augmentation"] = {type(self.policy).__name__: self.policy.model_dump()}
        return json.dumps(values)
