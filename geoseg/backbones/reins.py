"""Reins: what CrossEarth learns beside a transformer that it leaves as it is.

Wei et al., "Stronger, Fewer, Better" (Rein), CVPR 2024; CrossEarth (IEEE TPAMI 2025) takes its low-rank kind. After each block a patch
looks at that block's learned tokens, and what it finds is added to it. A patch may also look at the first of them, from which it takes
nothing: that is how it says no. Parameters bear the names of the authors' files.
"""

from __future__ import annotations

import math

import torch
from torch import nn

TOKENS, RANK, QUERIES = 100, 16, 256
"""Learned tokens of a block, their rank, and the width of the queries made of them, as in CrossEarth."""
_SCALE = 1e-3
"""What is found counts as much as this at first."""


class Reins(nn.Module):
    """Learned tokens for each of `depth` blocks of a transformer whose tokens are `width` wide."""

    def __init__(self, width: int, depth: int, *, tokens: int = TOKENS, rank: int = RANK, queries: int = QUERIES) -> None:
        """At least two `tokens`: the first gives nothing."""
        super().__init__()
        self.learnable_tokens_a = nn.Parameter(torch.empty(depth, tokens, rank))
        self.learnable_tokens_b = nn.Parameter(torch.empty(depth, rank, width))
        self.scale = nn.Parameter(torch.tensor(_SCALE))
        self.mlp_token2feat, self.mlp_delta_f = nn.Linear(width, width), nn.Linear(width, width)
        self.transform, self.merge = nn.Linear(width, queries), nn.Linear(3 * queries, queries)
        for factor in (self.learnable_tokens_a, self.learnable_tokens_b):
            if not factor.is_meta:
                nn.init.normal_(factor, std=1 / math.sqrt(rank))

    def tokens(self) -> torch.Tensor:
        """(block, token, width)."""
        return self.learnable_tokens_a @ self.learnable_tokens_b

    def forward(self, features: torch.Tensor, block: int) -> torch.Tensor:
        """Features (batch, 1 + patch, width) after a block, counted from 0, with what its tokens add; the class token stays as it is."""
        whole, patches = features[:, :1], features[:, 1:]
        learned = self.learnable_tokens_a[block] @ self.learnable_tokens_b[block]  # (token, width)
        looks = (patches @ learned.T / math.sqrt(learned.shape[-1])).softmax(dim=-1)  # (batch, patch, token)
        found = looks[..., 1:] @ self.mlp_token2feat(learned[1:])
        return torch.cat([whole, patches + self.scale * self.mlp_delta_f(found + patches)], dim=1)

    def queries(self) -> torch.Tensor:
        """(token, query) for a decoder that asks: made of the greatest, the mean and the last over the blocks of what a token asks.

        The three lie beside each other number by number, as the authors' weights expect it.
        """
        asked = self.transform(self.tokens())  # (block, token, query)
        three = torch.stack([asked.amax(dim=0), asked.mean(dim=0), asked[-1]], dim=-1)  # (token, query, 3)
        merged: torch.Tensor = self.merge(three.flatten(1))
        return merged
