"""GKD: what a small network takes over from a large one so that it holds elsewhere, without a label.

Generalizable knowledge distillation (GKD, its authors' code): the student's tokens ask the teacher's, which answer with the student's own
values, weighed by how alike they are ("query-based soft distillation"); what comes out is compared with the teacher. The softmax is not
scaled by the width, there is one head, and keys are the teacher's tokens as they are. Three such heads, each with weights of its own,
compare the class token, all tokens, and the patches of a student of which some are hidden; each loss is a mean square and counts 1.

Among one token the softmax is 1 whatever was asked, so that the class token's queries learn nothing, here as in the authors' code; it
stands among all tokens once more. Learn like this first, then freeze the student and learn the task (`freeze: true`): both at once is
what loses ground elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from geoseg.errors import PackageError

HIDDEN_RATIO = 0.5
"""Share of a student's patches that is hidden, in images of which some are."""
HIDDEN_CHANCE = 0.5
"""Chance of an image that some of its patches are hidden."""


class SoftDistillation(nn.Module):
    """Student tokens (batch, token, student) in the teacher's width, by asking its tokens (batch, token, teacher)."""

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.norm_q, self.norm_v = nn.LayerNorm(student), nn.LayerNorm(student)
        self.proj_q, self.proj_v = nn.Linear(student, teacher), nn.Linear(student, teacher)

    def forward(self, student: torch.Tensor, teacher: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, token, teacher); both have as many tokens, of the same places. Of the teacher's only those that `counts` (batch, token)
        answer; None has all answer.
        """
        asked = self.proj_q(self.norm_q(student)) @ teacher.transpose(1, 2)  # (batch, student token, teacher token)
        alike = (asked if counts is None else asked.masked_fill(~counts[:, None], float("-inf"))).softmax(dim=-1)
        answered: torch.Tensor = alike @ self.proj_v(self.norm_v(student))
        return answered


@dataclass(frozen=True)
class DistillationLosses:
    """Mean squares against the teacher."""

    token: torch.Tensor
    """Of the class token."""
    feature: torch.Tensor
    """Of all tokens, nothing hidden."""
    patch: torch.Tensor
    """Of the patches, some hidden from the student."""

    @property
    def total(self) -> torch.Tensor:
        """All three, each once."""
        return self.token + self.feature + self.patch


class DistillationHeads(nn.Module):
    """The three heads between a student and a teacher; thrown away afterwards."""

    def __init__(self, student: int, teacher: int) -> None:
        """Widths of the two networks' tokens."""
        super().__init__()
        self.token, self.feature, self.patch = (SoftDistillation(student, teacher) for _ in range(3))

    def forward(
        self, plain: torch.Tensor, hidden: torch.Tensor, teacher: torch.Tensor, has_data: torch.Tensor | None = None
    ) -> DistillationLosses:
        """From tokens (batch, 1 + patch, width), the class token first: the student's, the student's with patches hidden, the teacher's.

        Patches whose `has_data` (batch, patch) is False neither answer nor are compared, in images that have others. Nothing is learned by
        the teacher. PackageError where student and teacher have other numbers of tokens.
        """
        if plain.shape[:2] != teacher.shape[:2] or hidden.shape[:2] != teacher.shape[:2]:
            raise PackageError(
                f"student and teacher see {plain.shape[1] - 1} and {teacher.shape[1] - 1} patches; give both the same patch in pixels"
            )
        teacher = teacher.detach()
        counts = None
        if has_data is not None and not bool(has_data.all()):
            counts = has_data | ~has_data.any(dim=1, keepdim=True)
        whole = None if counts is None else torch.cat([torch.ones_like(counts[:, :1]), counts], dim=1)
        return DistillationLosses(
            functional.mse_loss(self.token(plain[:, :1], teacher[:, :1]), teacher[:, :1]),
            _mean_square(self.feature(plain, teacher, whole), teacher, whole),
            _mean_square(self.patch(hidden[:, 1:], teacher[:, 1:], counts), teacher[:, 1:], counts),
        )


def _mean_square(made: torch.Tensor, told: torch.Tensor, counts: torch.Tensor | None) -> torch.Tensor:
    """Over the tokens that count."""
    return functional.mse_loss(made, told) if counts is None else functional.mse_loss(made[counts], told[counts])


def hide(images: int, tokens: int, generator: torch.Generator) -> torch.Tensor:
    """(image, token) True where a patch is hidden from the student: half of the patches, in about half of the images."""
    chosen = torch.rand(images, generator=generator) < HIDDEN_CHANCE
    order = torch.rand(images, tokens, generator=generator).argsort(dim=1)
    hidden: torch.Tensor = (order < round(HIDDEN_RATIO * tokens)) & chosen[:, None]
    return hidden
