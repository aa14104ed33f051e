from math import exp, log

import pytest
import torch
from torch.nn import functional as F

from rec_core.errors import SettingsError
from rec_core.training import full_softmax

PATHS = ["plain", "chunked", *(["native"] if hasattr(F, "linear_cross_entropy") else [])]


def with_gradients(hidden, table, targets, **options):
    hidden, table = hidden.detach().requires_grad_(), table.detach().requires_grad_()
    loss = full_softmax(hidden, table, targets, **options)
    (3 * loss).backward()  # 3: the incoming gradient must be used
    return loss.detach(), hidden.grad, table.grad


def example(n, items, dim, dtype=torch.float64):
    torch.manual_seed(n + items)
    return torch.randn(n, dim, dtype=dtype), torch.randn(items, dim, dtype=dtype), torch.randint(items, (n,))


def test_two_targets_by_hand():
    hidden = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    first = -log(exp(1) / (exp(1) + exp(0) + exp(1)))  # target 0 among scores 1, 0, 1
    second = -log(exp(2) / (exp(0) + exp(2) + exp(2)))  # target 2 among scores 0, 2, 2
    for path in PATHS:
        found = full_softmax(hidden, table, torch.tensor([0, 2]), path=path)
        assert found.item() == pytest.approx((first + second) / 2, rel=1e-6)


@pytest.mark.parametrize("path", [p for p in PATHS if p != "plain"])
@pytest.mark.parametrize(("n", "items", "dim"), [(1, 5, 3), (7, 2, 4), (33, 57, 8), (130, 301, 16)])
@pytest.mark.parametrize("chunk_bytes", [1, 10_000, None])
def test_every_path_equals_the_plain_twin_in_value_and_gradients(path, n, items, dim, chunk_bytes):
    hidden, table, targets = example(n, items, dim)
    expected = with_gradients(hidden, table, targets, path="plain")
    found = with_gradients(hidden, table, targets, path=path, chunk_bytes=chunk_bytes)
    for ours, twin in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, twin, rtol=1e-12, atol=1e-13)


def test_float32_is_as_close_to_float64_as_the_plain_path_is():
    hidden, table, targets = example(400, 500, 32)
    exact = with_gradients(hidden, table, targets, path="plain")
    distance = {}
    for path in ("plain", "chunked"):
        found = with_gradients(hidden.float(), table.float(), targets, path=path, chunk_bytes=1 << 16)
        distance[path] = [
            float((f.double() - e).abs().max() / e.abs().max()) for f, e in zip(found, exact, strict=True)
        ]
    assert all(ours < 4 * twin + 1e-7 for ours, twin in zip(distance["chunked"], distance["plain"], strict=True))


@pytest.mark.parametrize("path", ["plain", "chunked"])
@pytest.mark.parametrize("chunk_bytes", [1, None])
def test_what_is_left_out_is_no_part_of_the_sum_and_gets_no_gradient(path, chunk_bytes):
    hidden, table, targets = example(12, 7, 3)
    left_out = (targets + 1 + torch.arange(12) % 6) % 7  # every other item once or twice
    found = with_gradients(hidden, table, targets, left_out_N=left_out, path=path, chunk_bytes=chunk_bytes)
    own, other = hidden.clone().requires_grad_(), table.clone().requires_grad_()
    terms = []
    for vector, target, absent in zip(own, targets.tolist(), left_out.tolist(), strict=True):
        scores = [vector @ other[item] for item in range(7) if item != absent]
        terms.append(torch.stack(scores).logsumexp(0) - vector @ other[target])
    expected = torch.stack(terms).mean()
    (3 * expected).backward()
    for ours, twin in zip(found, (expected.detach(), own.grad, other.grad), strict=True):
        torch.testing.assert_close(ours, twin, rtol=1e-12, atol=1e-13)


def test_the_native_path_leaves_nothing_out():
    hidden, table, targets = example(3, 4, 2)
    with pytest.raises(SettingsError, match="use path='chunked' to leave some out"):
        full_softmax(hidden, table, targets, left_out_N=(targets + 1) % 4, path="native")


def test_without_gradients_none_are_made(monkeypatch):
    hidden, table, targets = example(300, 500, 4)
    wanted = full_softmax(hidden.requires_grad_(), table.requires_grad_(), targets)
    monkeypatch.setattr(torch.Tensor, "index_add_", None)  # what a gradient of the table would need
    with torch.no_grad():
        found = full_softmax(hidden, table, targets)
    assert found.item() == wanted.item()
    assert not found.requires_grad


@pytest.mark.parametrize("path", ["plain", "chunked"])
def test_scores_beyond_the_range_of_exp_stay_finite(path):
    hidden, table, targets = example(10, 20, 4, torch.float32)
    loss, *gradients = with_gradients(hidden * 1e3, table, targets, path=path)
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("path", ["auto", *PATHS])
def test_no_targets_give_zero_with_zero_gradients(path):
    loss, *gradients = with_gradients(
        torch.empty(0, 4), torch.randn(9, 4), torch.empty(0, dtype=torch.int64), path=path
    )
    assert loss == 0
    assert gradients[1].abs().sum() == 0


def test_auto_is_chunked_for_many_logits_and_plain_for_a_handful():
    hidden, table, targets = example(400, 1000, 4, torch.float32)
    assert "Chunked" in type(full_softmax(hidden.requires_grad_(), table, targets).grad_fn).__name__
    assert "NllLoss" in type(full_softmax(hidden[:20], table, targets[:20]).grad_fn).__name__


def test_a_frozen_table_gets_no_gradient_and_costs_none():
    hidden, table, targets = example(50, 60, 4)
    full_softmax(hidden.requires_grad_(), table, targets, path="chunked").backward()
    assert table.grad is None
    torch.testing.assert_close(hidden.grad, with_gradients(hidden, table, targets, path="plain")[1] / 3)


def test_memory_is_the_budget_and_the_gradients_not_targets_times_items():
    hidden, table, targets = example(2000, 3000, 8, torch.float32)
    budget, largest = 1 << 20, 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel() * out.element_size())
            return out

    with Watch():
        with_gradients(hidden, table, targets, path="chunked", chunk_bytes=budget)
    assert largest <= budget < 2000 * 3000 * 4


def test_bfloat16_autocast_is_near_float32_and_gradients_come_in_the_parameters_dtype():
    hidden, table, targets = example(64, 80, 16, torch.float32)
    exact = with_gradients(hidden, table, targets, path="plain")
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(hidden, table, targets, path="chunked")
    for ours, twin in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, twin, rtol=0.05, atol=0.02)


def test_an_unknown_path_names_the_nearest():
    with pytest.raises(SettingsError, match="did you mean 'chunked'"):
        full_softmax(*example(3, 4, 2), path="chunkd")  # type: ignore[arg-type]
