import subprocess
import sys

import pytest

from rec_core.errors import SettingsError
from rec_core.training import TrainSettings
from rec_core.training.optimisation import learning_rate


def test_defaults_are_valid_and_lists_become_tuples():
    assert TrainSettings(betas=[0.8, 0.9], trackers=["tensorboard"]).betas == (0.8, 0.9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"epochs": 2.5}, "epochs is a whole number; got 2.5"),
        ({"batch_size": True}, "batch_size is a whole number; got True"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is a finite number; got nan"),
        ({"learning_rate": "1e-3"}, "learning_rate is a finite number; got '1e-3'"),
        ({"optimiser": "adamv"}, "did you mean 'adam"),
        ({"precision": "bf17"}, "did you mean 'bf16'?"),
        ({"schedule": "cosin"}, "did you mean 'cosine'?"),
        ({"betas": (0.9, 1.0)}, "two numbers in [0, 1)"),
        ({"metric": "ndcg"}, "e.g. 'ndcg@10'"),
        ({"weight_decay": -1}, "weight_decay must be at least 0"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_value_found(wrong, says):
    with pytest.raises(SettingsError) as error:
        TrainSettings(**wrong)
    assert says in str(error.value)


def test_learning_rate_rises_over_the_warmup_and_falls_to_zero_after_the_last_step():
    linear = TrainSettings(learning_rate=1.0, warmup_steps=2, schedule="linear")
    assert [learning_rate(linear, s, 6) for s in range(7)] == [1 / 2, 2 / 2, 1.0, 3 / 4, 2 / 4, 1 / 4, 0.0]
    cosine = TrainSettings(learning_rate=1.0, schedule="cosine")
    assert [round(learning_rate(cosine, s, 4), 6) for s in range(5)] == [1.0, 0.853553, 0.5, 0.146447, 0.0]
    assert learning_rate(TrainSettings(learning_rate=0.5), 10**6, 10) == 0.5


def test_settings_and_protocols_need_neither_torch_nor_polars():
    code = (
        "import sys; from rec_core.training import TrainSettings, SequenceModel, Progress;"
        "import rec_core.training as t; t.pad, t.epoch_order;"
        "assert not {'torch', 'polars', 'accelerate', 'cyclopts'} & set(sys.modules), set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_loop_and_the_recommender_need_no_polars():
    code = (
        "import sys; sys.modules['polars'] = sys.modules['cyclopts'] = None;"
        "import rec_core.evaluation, rec_core.training as t; [getattr(t, name) for name in t.__all__]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
