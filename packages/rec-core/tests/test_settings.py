"""A settings file states what differs from the defaults, and nothing else."""

from dataclasses import dataclass

import pytest

from rec_core.errors import SettingsError
from rec_core.settings import read_settings_file


@dataclass(frozen=True)
class Model:
    dim: int = 64
    dropout: float = 0.2


@dataclass(frozen=True)
class Training:
    batch_size: int = 256
    seed: int = 1


def read(tmp_path, name: str, text: str) -> dict:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_settings_file(tmp_path / name, Model, Training, also=("model",))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.toml", 'dim = 32\n"batch-size" = 16\nmodel = "sasrec"'),
        ("run.JSON", '{"dim": 32, "batch_size": 16, "model": "sasrec"}'),
        ("run.yaml", "dim: 32\nbatch-size: 16\nmodel: sasrec"),
        ("run.yml", "{dim: 32, batch_size: 16, model: sasrec}"),
    ],
)
def test_every_format_gives_the_same_values_however_the_keys_are_spelled(tmp_path, name, text):
    if name.endswith(("yaml", "yml")):
        pytest.importorskip("yaml")
    assert read(tmp_path, name, text) == {"dim": 32, "batch_size": 16, "model": "sasrec"}


def test_an_empty_file_changes_nothing(tmp_path):
    assert read(tmp_path, "run.toml", "# all defaults") == {}


def test_an_empty_yaml_file_changes_nothing(tmp_path):
    pytest.importorskip("yaml")
    assert read(tmp_path, "run.yaml", "# all defaults\n") == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.toml", "batchsize = 3", "unknown key 'batchsize'; did you mean 'batch_size'"),
        ("run.toml", "zzz = 3", "unknown key 'zzz'; there is: batch_size, dim, dropout, model, seed"),
        ("run.toml", "[training]\nseed = 3", "unknown key 'training'"),
        ("run.toml", 'batch_size = 3\n"batch-size" = 4', "'batch_size' stands there twice, once spelled 'batch-size'"),
        ("run.toml", "seed = \n", "line 1, column 8"),
        ("run.json", "{'seed': 3}", "line 1 column 2"),
        ("run.json", "[3]", "wanted key = value pairs, got list"),
        ("run.ini", "seed = 3", "unknown ending '.ini'; use .toml, .json or .yaml"),
        ("run", "seed = 3", "unknown ending ''"),
    ],
)
def test_a_mistake_in_a_settings_file_names_the_file_and_what_is_wrong(tmp_path, name, text, message):
    with pytest.raises(SettingsError, match=message) as caught:
        read(tmp_path, name, text)
    assert str(caught.value).startswith(f"settings file {tmp_path / name}: ")


@pytest.mark.parametrize("text", ["seed: [1", "a: b: c"])
def test_yaml_that_cannot_be_read_is_a_mistake_of_the_file(tmp_path, text):
    pytest.importorskip("yaml")
    with pytest.raises(SettingsError, match=r"run\.yaml: .*\n? .*line 1"):
        read(tmp_path, "run.yaml", text)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.toml: No such file or directory$"):
        read_settings_file(tmp_path / "none.toml", Model)
    (tmp_path / "latin.toml").write_bytes(b'model = "caf\xe9"')
    with pytest.raises(SettingsError, match=r"latin\.toml: 'utf-8' codec can't decode"):
        read_settings_file(tmp_path / "latin.toml", Model)
