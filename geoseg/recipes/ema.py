"""The mean of a network's weights over the last steps of its training."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

Weights = dict[str, torch.Tensor]
"""As `state_dict` gives them."""


class AveragedWeights(Callback):
    """Keeps an exponential moving average of all weights, which is less noisy than the weights of any one step.

    Validation judges the mean; training goes on from the weights themselves, and these are what checkpoints call the network's
    state. The mean stands beside it, so that a training that is taken up again has the same one. When training ends the mean is
    put into the network. In the first steps it keeps less of itself, (1 + steps) / (10 + steps) at most, to forget the random
    weights that it began with. Running statistics of normalisation are averaged likewise; whole numbers are copied.
    (Lightning has a callback of this kind since 2.6; this one serves 2.5 as well.)
    """

    def __init__(self, decay: float = 0.98) -> None:
        """`decay` (0…1) is what the mean keeps of itself in each step; it looks back over about 1 / (1 - decay) steps."""
        if not 0 < decay < 1:
            raise ValueError(f"a decay of {decay} is outside 0…1")
        self.decay = decay
        self.average: Weights = {}
        """Empty before training begins."""
        self.steps = 0
        """Of the optimiser, that have gone into the mean."""
        self._aside: Weights = {}
        """The weights of training, while the mean is in their place."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers, for a checkpoint."""
        return {"average": self.average, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.average, self.steps = state_dict["average"], state_dict["steps"]

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin with the weights as they are, or bring those of a checkpoint to the network's device."""
        weights = pl_module.state_dict()
        self.average = {name: self.average.get(name, tensor).detach().to(tensor.device, copy=True) for name, tensor in weights.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take a step of the optimiser into the mean; a batch that only adds to the gradients is none."""
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        kept = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, tensor in pl_module.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - kept)
            else:
                self.average[name].copy_(tensor)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Judge the mean."""
        if trainer.state.fn == "fit":
            self._aside = {name: tensor.detach().clone() for name, tensor in pl_module.state_dict().items()}
            pl_module.load_state_dict(self.average)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Go on with the weights of training; checkpoints are written after this."""
        if self._aside:
            pl_module.load_state_dict(self._aside)
            self._aside = {}

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """What has been learned is the mean."""
        pl_module.load_state_dict(self.average)
