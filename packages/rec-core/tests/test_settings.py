"""A settings file states what differs from the defaults, and nothing else."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
        ("run.toml", "[training]\nseed = 3", "'training' is a table, but settings files are flat: write seed without"),
        ("run.toml", "[model]\ndim = 3", "'model' is a table, but settings files are flat: write dim without"),
        ("run.json", '{"training": {}}', "'training' is a table, but settings files are flat: write its keys without"),
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


@dataclass(frozen=True)
class Typed:
    epochs: int = 3
    rate: float = 0.1
    quick: bool = False
    name: str | None = None
    form: Literal["csv", "tsv"] = "csv"
    betas: tuple[float, float] = (0.9, 0.9)
    trackers: tuple[str, ...] = ()
    items_file: Path | None = None
    at_most: int | None = None


@dataclass(frozen=True)
class Other:
    form: int = 1


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("epochs = 2.5", "a whole number; got 2.5"),
        ("epochs = 2.0", "a whole number; got 2.0"),
        ("epochs = true", "a whole number; got True"),
        ('epochs = "2"', "a whole number; got '2'"),
        ("at_most = 2.5", "a whole number; got 2.5"),
        ('rate = "fast"', "a number; got 'fast'"),
        ("rate = false", "a number; got False"),
        ("quick = 1", "true or false; got 1"),
        ('quick = "yes"', "true or false; got 'yes'"),
        ("name = 3", "text; got 3"),
        ("name = 2024-01-01", "text; got datetime.date"),
        ('form = "xml"', "one of csv, tsv; got 'xml'"),
        ("form = 1", "one of csv, tsv; got 1"),
        ("betas = [0.9]", r"a list of 2, each a number; got \[0.9\]"),
        ("betas = 0.9", "a list of 2, each a number; got 0.9"),
        ("betas = [0.9, true]", "a list of 2, each a number; got"),
        ("trackers = [1]", r"a list, each text; got \[1\]"),
        ("items_file = 3", r"a path \(text\); got 3"),
        ("model = 3", "text; got 3"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_file_key_and_what_is_wanted(tmp_path, text, wanted):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(SettingsError, match=f"^settings file .*run.toml: {text.split()[0]} is {wanted}"):
        read_settings_file(tmp_path / "run.toml", Typed, also=("model",))


@pytest.mark.parametrize(
    "text",
    [
        "epochs = 2",
        "rate = 1",
        "rate = 0.5",
        "quick = true",
        'name = "a"',
        'form = "tsv"',
        "betas = [1, 0.5]",
        "trackers = []",
        'trackers = ["a", "b"]',
        'items_file = "a/b.csv"',
        "at_most = 3",
    ],
)
def test_a_value_that_fits_its_field_comes_as_it_stands_there(tmp_path, text):
    (tmp_path / "run.toml").write_text(text)
    assert read_settings_file(tmp_path / "run.toml", Typed) == tomllib.loads(text)


def test_nothing_is_a_value_where_a_field_may_be_empty(tmp_path):
    (tmp_path / "run.json").write_text('{"name": null}')
    assert read_settings_file(tmp_path / "run.json", Typed) == {"name": None}
    (tmp_path / "run.json").write_text('{"epochs": null}')
    with pytest.raises(SettingsError, match="epochs is a whole number; got None"):
        read_settings_file(tmp_path / "run.json", Typed)


def test_a_key_of_two_stages_may_have_the_type_of_either(tmp_path):
    for text in ("form = 1", 'form = "csv"'):
        (tmp_path / "run.toml").write_text(text)
        assert read_settings_file(tmp_path / "run.toml", Typed, Other)
    (tmp_path / "run.toml").write_text("form = 0.5")
    with pytest.raises(SettingsError, match=r"form is one of csv, tsv or a whole number; got 0\.5"):
        read_settings_file(tmp_path / "run.toml", Typed, Other)


def test_a_number_that_yaml_takes_for_text_says_how_to_write_it(tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / "run.yaml").write_text("rate: 1e-3")
    with pytest.raises(SettingsError, match=r"rate is a number; got '1e-3'; YAML needs the dot in 1\.0e-3"):
        read_settings_file(tmp_path / "run.yaml", Typed)
    (tmp_path / "run.yaml").write_text("rate: 1.0e-3")
    assert read_settings_file(tmp_path / "run.yaml", Typed) == {"rate": 0.001}
