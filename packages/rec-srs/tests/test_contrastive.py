"""Contrastive losses against their plain twins, and the noise of the two views."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rec_srs.contrastive import contrast, directed_noise, info_nce


def plain_contrast(anchors: Tensor, others: Tensor, partners: Tensor, temperature: float) -> Tensor:
    """One anchor at a time, as the formula is written."""
    total = anchors.new_zeros(())
    for anchor, partner in zip(anchors, partners.tolist(), strict=True):
        cosines = torch.stack([anchor @ o / (anchor.norm() * o.norm()) for o in others])
        total = total - torch.log(torch.exp(cosines[partner] / temperature) / torch.exp(cosines / temperature).sum())
    return total / len(anchors)


def test_two_orthonormal_rows_against_themselves_lose_what_the_arithmetic_says() -> None:
    rows = torch.eye(2)
    golden = log(1 + exp(-1 / 0.2))  # -log(e^5 / (e^5 + e^0))
    assert float(info_nce(rows, rows, 0.2)) == pytest.approx(golden, abs=1e-7)
    assert golden == pytest.approx(0.0067153, abs=1e-7)


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_the_loss_and_both_gradients_equal_the_plain_twin(temperature: float) -> None:
    torch.manual_seed(0)
    anchors, others = (torch.randn(n, 5, dtype=torch.float64, requires_grad=True) for n in (10, 7))
    partners = torch.tensor([0, 6, 6, 3, 2, 2, 2, 5, 0, 1])
    here = contrast(anchors, others, partners, temperature)
    there = plain_contrast(anchors, others, partners, temperature)
    torch.testing.assert_close(here, there)
    for ours, theirs in zip(
        torch.autograd.grad(here, [anchors, others]), torch.autograd.grad(there, [anchors, others]), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 16, None])  # a row at a time, 20 rows, all
def test_in_blocks_the_loss_and_both_gradients_equal_the_whole_matrix(chunk_bytes: int | None) -> None:
    torch.manual_seed(1)
    views = [torch.randn(400, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]  # 160,000 > 2^17 logits
    here = info_nce(views[0], views[1], 0.1, chunk_bytes=chunk_bytes)
    unit = [v / v.norm(dim=1, keepdim=True) for v in views]
    there = torch.nn.functional.cross_entropy(unit[0] @ unit[1].T / 0.1, torch.arange(400))
    torch.testing.assert_close(here, there)
    for ours, theirs in zip(torch.autograd.grad(here, views), torch.autograd.grad(there, views), strict=True):
        torch.testing.assert_close(ours, theirs)


@settings(deadline=None, max_examples=25)
@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
def test_the_lengths_of_the_vectors_do_not_matter(scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    one, other = torch.randn(2, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(info_nce(one * scale, other, 0.2), info_nce(one, other / scale, 0.2))


def test_it_stays_finite_at_a_temperature_where_a_naive_exponential_overflows() -> None:
    rows = torch.eye(3).requires_grad_()
    value = info_nce(rows, rows.detach().flip(0), 0.005)  # e^200 does not fit float32
    assert torch.isfinite(value)
    assert torch.isfinite(torch.autograd.grad(value, rows)[0]).all()
    # rows 0 and 2 meet a vector orthogonal to theirs while their own is a negative: 200 each; row 1 loses ~0
    assert value.item() == pytest.approx(400 / 3, rel=1e-6)


def test_no_rows_lose_nothing_and_have_a_gradient_of_zero() -> None:
    table = torch.randn(4, 3, requires_grad=True)
    value = contrast(table[:0], table, torch.zeros(0, dtype=torch.int64), 0.1)
    assert value.item() == 0
    assert not torch.autograd.grad(value, table)[0].any()


def test_autocast_does_not_coarsen_it() -> None:
    torch.manual_seed(2)
    one, other = torch.randn(2, 50, 8)
    exact = info_nce(one, other, 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(one, other, 0.05), exact)


# ---- noise -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(rows=st.integers(1, 9), width=st.integers(1, 9), length=st.floats(1e-3, 10), seed=st.integers(0, 999))
def test_noise_has_its_length_and_the_signs_of_the_vector(rows: int, width: int, length: float, seed: int) -> None:
    torch.manual_seed(seed)
    vectors = torch.randn(rows, width)
    noise = directed_noise(vectors, length)
    assert noise.shape == vectors.shape
    torch.testing.assert_close(noise.norm(dim=1), torch.full((rows,), length))
    assert torch.equal(noise.sign(), vectors.sign())


def test_zero_entries_get_no_noise_and_zero_rows_stay_zero() -> None:
    vectors = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, -2.0]])
    noise = directed_noise(vectors, 0.1)
    assert noise[0].tolist() == [0, 0, 0]
    assert noise[1, 1] == 0
    assert 0 < float(noise[1].norm()) < 0.1  # what the entry would have had is not given to the others


def test_noise_of_length_zero_is_zero() -> None:
    assert not directed_noise(torch.randn(5, 3), 0.0).any()


def test_before_its_length_is_set_noise_is_uniform_between_0_and_1() -> None:
    torch.manual_seed(0)
    noise = directed_noise(torch.ones(2000, 50), 1.0).double()
    # n / |n| with 50 uniform entries: |n| = sqrt(50/3) (1 ± 6 %), so entries are nearly uniform on [0, sqrt(3/50)]
    share = (noise * (50 / 3) ** 0.5).flatten()
    assert float(share.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(share.var()) == pytest.approx(1 / 12, abs=0.003)
    for edge in (0.1, 0.25, 0.5, 0.75):
        assert float((share < edge).double().mean()) == pytest.approx(edge, abs=0.01)
    columns = noise[:, 0] - noise[:, 0].mean(), noise[:, 1] - noise[:, 1].mean()
    assert abs(float((columns[0] * columns[1]).mean() / noise[:, 0].var())) < 0.1  # neighbours in one draw: unrelated


def test_noise_is_fresh_at_each_call_equal_for_equal_seeds_and_has_no_gradient() -> None:
    vectors = torch.randn(6, 5, requires_grad=True)
    torch.manual_seed(3)
    first, second = directed_noise(vectors, 0.1), directed_noise(vectors, 0.1)
    torch.manual_seed(3)
    assert torch.equal(directed_noise(vectors, 0.1), first)
    assert not torch.equal(first, second)
    assert not first.requires_grad
