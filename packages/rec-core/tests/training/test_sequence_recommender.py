import numpy as np
import pytest
import torch

from rec_core.errors import DataError
from rec_core.protocols import DenseScorer, Recommender, SequenceEncoder, VectorScorer
from rec_core.testing.tiny_sequence_model import TinySequenceModel
from rec_core.training import SequenceRecommender
from rec_core.types import Candidates, Histories

HISTORIES = Histories.of([[5, 6, 7, 8], [9], [1, 2], [3, 3, 3]], users=[4, 2, 0, -1])


@pytest.fixture
def recommender():
    return SequenceRecommender(TinySequenceModel.seeded(10, dropout=0.9))


def test_it_is_all_that_a_core_protocol_can_ask(recommender):
    for protocol in (Recommender, DenseScorer, VectorScorer, SequenceEncoder):
        assert isinstance(recommender, protocol)
    assert recommender.known_users_only is False


def test_rows_come_back_in_the_order_asked_and_alone_equals_in_a_batch(recommender):
    together = recommender.encode(HISTORIES)
    assert together.dtype == np.float32
    for r in range(4):
        np.testing.assert_allclose(recommender.encode(HISTORIES.block(r, r + 1))[0], together[r], rtol=1e-5)
    one_by_one = SequenceRecommender(recommender.model, batch_rows=1)
    np.testing.assert_allclose(one_by_one.encode(HISTORIES), together, rtol=1e-5)


def test_scores_are_dot_products_of_the_vectors(recommender):
    expected = recommender.user_vectors(HISTORIES) @ recommender.item_vectors().T
    np.testing.assert_allclose(recommender.score_all(HISTORIES), expected, rtol=1e-6)
    candidates = Candidates.of([[1, 2], [3], [], [0]])
    scores = recommender.score(HISTORIES, candidates)
    np.testing.assert_allclose(scores.values, expected[[0, 0, 1, 3], [1, 2, 3, 0]], rtol=1e-5)
    best = recommender.recommend(HISTORIES, 3, exclude=Candidates.of([[0], [1], [2], [3]]))
    for r in range(4):
        allowed = [i for i in np.argsort(-expected[r]) if i != r]
        assert best.items[r].tolist() == allowed[:3]


class WithItemBias(TinySequenceModel):
    def item_bias(self):
        return torch.linspace(-50, 50, self.items.n_items, requires_grad=True)


def test_a_model_s_item_bias_is_one_more_column_of_the_vectors(recommender):
    model = WithItemBias.seeded(10, dropout=0.9)
    biased = SequenceRecommender(model, 6)
    expected = recommender.score_all(HISTORIES)[:, :6] + np.linspace(-50, 50, 10)[:6]
    np.testing.assert_allclose(biased.score_all(HISTORIES), expected, rtol=1e-5)
    assert biased.item_vectors().shape == biased.item_embeddings().vectors.shape == (6, 9)
    assert (biased.encode(HISTORIES)[:, 8] == 1).all()
    assert biased.recommend(HISTORIES, 3).items.tolist() == [[5, 4, 3]] * 4  # 11 apart: the bias decides
    model.item_bias = lambda: None  # a model that can have one and has none
    np.testing.assert_allclose(SequenceRecommender(model).score_all(HISTORIES), recommender.score_all(HISTORIES))


def test_only_the_first_items_of_a_longer_table_are_ranked():
    recommender = SequenceRecommender(TinySequenceModel.seeded(10), 6)
    assert recommender.score_all(HISTORIES).shape == (4, 6)
    assert recommender.item_embeddings().vectors.shape == (6, 8)
    with pytest.raises(DataError, match="11 items are to be ranked, the model's table has 10"):
        SequenceRecommender(TinySequenceModel.seeded(10), 11)


def test_an_empty_history_is_an_error_that_names_the_row(recommender):
    with pytest.raises(DataError, match=r"row 1 \(user 7\) has an empty history \(1 of 2 rows have\)"):
        recommender.user_vectors(Histories.of([[1], []], users=[3, 7]))
    assert recommender.user_vectors(Histories.of([])).shape == (0, 8)


def test_an_item_beyond_the_table_is_an_error(recommender):
    with pytest.raises(DataError, match=r"holds item 10, the model knows 0\.\.9"):
        recommender.user_vectors(Histories.of([[10]]))


def test_the_models_mode_is_left_as_it_was_and_vectors_are_copies(recommender):
    recommender.model.train()
    recommender.encode(HISTORIES)
    assert recommender.model.training
    before = recommender.model.items.weight.detach().clone()
    recommender.item_vectors()[:] = 0
    assert torch.equal(recommender.model.items.weight, before)


def test_rows_are_encoded_by_the_events_they_hold(monkeypatch):
    from rec_core.training import sequence_recommender

    monkeypatch.setattr(sequence_recommender, "_EVENTS", {True: 6, False: 6})
    model = TinySequenceModel.seeded(10)
    whole = SequenceRecommender(model, batch_rows=4).encode(HISTORIES)
    passes = []
    make = model.batch

    def batch(histories, rows, rng):
        passes.append(rows.tolist())
        return make(histories, rows, rng)

    monkeypatch.setattr(model, "batch", batch)
    np.testing.assert_allclose(SequenceRecommender(model).encode(HISTORIES), whole, rtol=1e-5)
    # lengths 1, 2, 3, 4 in rows 1, 2, 3, 0: two rows of at most 2 make 4 places, three of at most 3 would make 9
    assert passes == [[1, 2], [3], [0]]
