"""GKD's heads: permutations, an unscaled softmax, what learns and what does not, and numbers of parameters."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from geoseg.backbones.gkd import DistillationHeads, SoftDistillation, hide
from geoseg.errors import PackageError


def tokens(width: int, seed: int, count: int = 7) -> torch.Tensor:
    return torch.randn(2, count, width, generator=torch.Generator().manual_seed(seed))


def test_tokens_in_another_order_come_out_in_that_order() -> None:
    head, student, teacher, order = SoftDistillation(8, 12), tokens(8, 0), tokens(12, 1), torch.randperm(7)
    torch.testing.assert_close(head(student[:, order], teacher[:, order]), head(student, teacher)[:, order], rtol=0, atol=1e-6)
    assert not torch.allclose(head(student[:, order], teacher), head(student, teacher)[:, order], atol=1e-3)


def test_the_softmax_is_not_scaled() -> None:
    head, student, teacher = SoftDistillation(8, 12), tokens(8, 0), tokens(12, 1)
    asked, values = head.proj_q(head.norm_q(student)), head.proj_v(head.norm_v(student))
    by_hand = torch.stack([torch.softmax(one @ keys.T, dim=-1) @ said for one, keys, said in zip(asked, teacher, values, strict=True)])
    torch.testing.assert_close(head(student, teacher), by_hand, rtol=0, atol=1e-6)
    scaled = torch.softmax(asked @ teacher.transpose(1, 2) / 12**0.5, dim=-1) @ values
    assert (head(student, teacher) - scaled).abs().max() > 1e-3


@pytest.mark.parametrize(("student", "teacher", "count"), [(384, 768, 1_778_688), (768, 1024, 4_733_952)])
def test_three_heads_have_the_published_numbers_of_parameters(student: int, teacher: int, count: int) -> None:
    with torch.device("meta"):
        heads = DistillationHeads(student, teacher)
    assert sum(parameter.numel() for parameter in heads.parameters()) == count


def test_the_class_tokens_queries_and_the_teacher_learn_nothing() -> None:
    heads = DistillationHeads(8, 12)
    student, hidden, teacher = (tokens(width, seed).requires_grad_() for seed, width in enumerate((8, 8, 12)))
    heads(student, hidden, teacher).total.backward()
    assert teacher.grad is None
    assert heads.token.proj_q.weight.grad.abs().max() == 0
    for learns in (heads.token.proj_v, heads.feature.proj_q, heads.feature.proj_v, heads.patch.proj_q, heads.patch.proj_v):
        assert learns.weight.grad.abs().max() > 0
    assert student.grad.abs().max() > 0
    assert hidden.grad[:, 0].abs().max() == 0, "of what is hidden only the patches are compared"


def test_a_student_that_says_what_the_teacher_says_has_no_loss() -> None:
    heads, teacher = DistillationHeads(12, 12), 50 * torch.eye(12)[None, :7].expand(2, -1, -1)
    for head in (heads.token, heads.feature, heads.patch):
        head.norm_q = head.norm_v = torch.nn.Identity()
        for layer in (head.proj_q, head.proj_v):
            torch.nn.init.eye_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    assert heads(teacher, teacher, teacher).total < 1e-6
    assert heads(teacher.flip(1), teacher, teacher).feature < 1e-6, "as a set, the tokens are those of the teacher"
    assert heads(-teacher, teacher, teacher).feature > 1


def test_half_of_the_patches_are_hidden_in_half_of_the_images() -> None:
    hidden = hide(400, 30, torch.Generator().manual_seed(0))
    counts = hidden.sum(dim=1)
    assert set(counts.tolist()) == {0, 15}
    assert 160 < int((counts > 0).sum()) < 240
    assert (hidden.float().mean(dim=0) - 0.25).abs().max() < 0.08, "each place as often as any other"


def test_other_numbers_of_tokens_are_refused() -> None:
    with pytest.raises(PackageError, match="see 6 and 4 patches"):
        DistillationHeads(8, 12)(tokens(8, 0), tokens(8, 1), tokens(12, 2, count=5))
