"""The blocks' own dropout: the share, the scale, the gradient, and where its numbers come from."""

from __future__ import annotations

import pytest
import torch

from rec_srs.blocks import dropout


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_the_wanted_share_is_dropped_and_the_mean_is_kept(share: float) -> None:
    torch.manual_seed(0)
    n = 400_003  # no multiple of four
    got = dropout(torch.ones(n), share, training=True)
    deviation = (share * (1 - share) / n) ** 0.5
    assert float((got == 0).double().mean()) == pytest.approx(share, abs=5 * deviation)
    assert float(got.double().mean()) == pytest.approx(1, abs=5 * deviation / (1 - share))
    assert got.unique().tolist() == pytest.approx([0, 1 / (1 - share)])


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(100_000, 4), 0.3, training=True) > 0).double()
    correlation = torch.corrcoef(kept.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / 100_000**0.5
    assert kept.mean(dim=0).tolist() == pytest.approx([0.7] * 4, abs=0.01)


def test_the_gradient_goes_through_what_was_kept() -> None:
    torch.manual_seed(0)
    values = torch.ones(7, 5, dtype=torch.float64, requires_grad=True)
    got = dropout(values, 0.4, training=True)
    got.sum().backward()
    assert got.dtype == torch.float64
    assert torch.equal(values.grad, got.detach())  # values are ones, so the result is the factor itself


def test_a_restored_generator_gives_the_same_mask_and_another_call_another() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = (dropout(torch.ones(1000), 0.5, training=True) for _ in range(2))
    torch.set_rng_state(state)
    assert torch.equal(first, dropout(torch.ones(1000), 0.5, training=True))
    assert not torch.equal(first, second)


def test_nothing_is_drawn_when_there_is_nothing_to_drop() -> None:
    values = torch.randn(5)
    state = torch.get_rng_state()
    assert dropout(values, 0.5, training=False) is values
    assert dropout(values, 0.0, training=True) is values
    assert torch.equal(torch.get_rng_state(), state)
    assert dropout(torch.ones(0, 3), 0.5, training=True).shape == (0, 3)
