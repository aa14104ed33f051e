"""Presets: every option they name exists, and whoever says more than a preset is heard."""

import json
from dataclasses import fields

import pytest

from rec_core.artifacts import open_artifact
from rec_core.errors import SettingsError
from rec_data.config import PrepareSettings
from rec_data.presets import PRESETS, preset

DEFAULTS = {field.name: field.default for field in fields(PrepareSettings)}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_only_what_differs_from_the_defaults(name):
    made = preset(name)
    assert made.preset == name
    for option, value in PRESETS[name].options.items():
        assert getattr(made, option) == value != DEFAULTS[option]
    untouched = DEFAULTS.keys() - PRESETS[name].options.keys() - {"preset"}
    assert all(getattr(made, option) == DEFAULTS[option] for option in untouched)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_where_it_comes_from(name):
    assert "arXiv" in PRESETS[name].source
    assert all(text.endswith(".") for text in PRESETS[name].differences)


def test_changes_win_over_a_preset():
    made = preset("lc-rec", k_core=10, cold_items=True, format="table")
    assert (made.k_core, made.cold_items, made.format, made.text_rules) == (10, True, "table", "lc-rec")
    assert made.source_version is None  # an edition of the layout it was for
    assert preset("lc-rec", format="amazon").source_version == "2018"
    assert (preset("llmemb-fashion").user_core, preset("llmemb-fashion").item_core) == (3, 2)
    assert (preset("llmemb-fashion", k_core=9).user_core, preset("llmemb-fashion", k_core=9).item_core) == (9, 9)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(SettingsError, match="no preset is called 'lcrec'; did you mean 'lc-rec'"):
        preset("lcrec")


@pytest.mark.parametrize("name", PRESETS)
def test_the_commands_that_a_preset_goes_on_with_are_understood(name, rec_data, tmp_path):
    for command in PRESETS[name].next:
        program, *words = command.split()
        assert program == "rec-data"
        said = rec_data(*(tmp_path if word == "DATASET" else word for word in words))
        assert said.code == 2
        assert "is not an artifact" in said.err  # so far it came


# the command line


def settings_of(said, path) -> dict:
    assert said.code == 0, said.err
    return dict(open_artifact(path, "dataset").settings)


def test_a_preset_gives_defaults_a_file_changes_them_and_an_option_wins(rec_data, raw_files, tmp_path):
    csv = raw_files.csv()
    words = ["prepare", csv, tmp_path / "out", "--overwrite", "--preset", "sasrec"]
    alone = settings_of(rec_data(*words, "--k-core", 1), tmp_path / "out")
    assert (alone["preset"], alone["duplicates"], alone["k_core_rule"], alone["k_core"]) == (
        "sasrec",
        "all",
        "one-pass",
        1,
    )
    (tmp_path / "wish.toml").write_text('duplicates = "last"\nk_core = 2\n')
    file = settings_of(rec_data(*words, "--config", tmp_path / "wish.toml"), tmp_path / "out")
    assert (file["duplicates"], file["k_core"], file["k_core_rule"]) == ("last", 2, "one-pass")
    option = [*words, "--config", tmp_path / "wish.toml", "--duplicates", "first", "--k-core-rule", "iterative"]
    both = settings_of(rec_data(*option), tmp_path / "out")
    assert (both["duplicates"], both["k_core"], both["k_core_rule"]) == ("first", 2, "iterative")


def test_a_bound_for_both_sides_replaces_the_two_of_a_preset(rec_data, raw_files, tmp_path):
    words = ["prepare", raw_files.csv(), tmp_path / "out", "--overwrite", "--format", "table"]
    for one in (["--preset", "llmemb-fashion", "--k-core", 2], ["--config", tmp_path / "wish.toml"]):
        (tmp_path / "wish.toml").write_text('preset = "llmemb-fashion"\nk-core = 2\n')
        made = settings_of(rec_data(*words, *one, "--text-rules", "clean"), tmp_path / "out")
        assert (made["k_core"], made["user_k_core"], made["item_k_core"]) == (2, None, None)


def test_a_settings_file_may_name_the_preset(rec_data, raw_files, tmp_path):
    (tmp_path / "wish.toml").write_text('preset = "llm4idrec"\nvalid_share = 0.25\n')
    words = ["prepare", raw_files.csv(), tmp_path / "out", "--config", tmp_path / "wish.toml"]
    made = settings_of(rec_data(*words), tmp_path / "out")
    assert (made["preset"], made["split"], made["test_share"], made["valid_share"]) == ("llm4idrec", "ratio", 0.2, 0.25)
    said = rec_data(*words, "--overwrite", "--preset", "s3rec", "--k-core", 1)  # the command line names another
    made = settings_of(said, tmp_path / "out")
    assert (made["preset"], made["split"], made["duplicates"]) == ("s3rec", "leave-one-out", "all")


def test_flags_of_a_preset_are_flags(rec_data, raw_files, tmp_path):
    words = ["prepare", raw_files.movielens(), tmp_path / "out", "--preset", "lc-rec"]
    made = settings_of(rec_data(*words, "--format", "movielens", "--k-core", 1), tmp_path / "out")
    assert made["cold_items"] is False
    assert made["described_items_only"] is True
    assert open_artifact(tmp_path / "out").manifest["counts"]["cold_items"] == 0


def test_a_preset_in_one_command_line_is_gone_in_the_next(rec_data, raw_files, tmp_path):
    csv = raw_files.csv()
    rec_data("prepare", csv, tmp_path / "a", "--preset", "sasrec", "--k-core", 1)
    plain = settings_of(rec_data("prepare", csv, tmp_path / "b", "--k-core", 1), tmp_path / "b")
    assert (plain["preset"], plain["duplicates"]) == (None, "first")


@pytest.mark.parametrize("words", [["--preset", "sasrek"], ["--config"]])
def test_a_misspelt_preset_is_one_message(rec_data, raw_files, tmp_path, words):
    if words == ["--config"]:
        (tmp_path / "wish.toml").write_text('preset = "sasrek"\n')
        words = ["--config", tmp_path / "wish.toml"]
    said = rec_data("prepare", raw_files.csv(), tmp_path / "out", *words)
    assert said.code == 2
    assert said.err == "error: no preset is called 'sasrek'; did you mean 'sasrec'? (rec-data presets lists them)\n"
    assert not (tmp_path / "out").exists()


def test_presets_are_listed_and_shown(rec_data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    said = rec_data("presets")
    assert said.code == 0
    assert all(name in said.out for name in PRESETS)
    one = rec_data("presets", "lc-rec").out
    for text in (
        "arXiv 2311.09049",
        "--described-items-only",
        "--no-cold-items",
        "Not repeated",
        "cannot be made again",
    ):
        assert text in one
    assert json.loads(rec_data("presets", "sasrec", "--json").out)["options"]["k_core_rule"] == "one-pass"
    assert json.loads(rec_data("presets", "--json").out).keys() == PRESETS.keys()
    assert rec_data("presets", "lc-recs").code == 2


# real data


def test_sasrec_keeps_what_its_public_file_of_movielens_1m_holds(rec_data, real_data, tmp_path):
    if not (real_data / "ml-1m" / "ratings.dat.gz").exists():
        pytest.skip(f"no ml-1m in {real_data}")
    words = ["prepare", real_data / "ml-1m", tmp_path / "out", "--format", "movielens", "--preset", "sasrec"]
    counts = open_artifact(tmp_path / "out").manifest["counts"] if rec_data(*words).code == 0 else {}
    assert (counts["users"], counts["items"], counts["interactions"]) == (6_040, 3_416, 999_611)


def test_s3rec_keeps_the_5_core_of_amazon_beauty_whole(rec_data, real_data, tmp_path):
    source = real_data / "amazon-beauty-2014" / "interactions.csv.gz"
    if not source.exists():
        pytest.skip(f"no amazon-beauty-2014 in {real_data}")
    assert rec_data("prepare", source, tmp_path / "out", "--preset", "s3rec").code == 0
    counts = open_artifact(tmp_path / "out").manifest["counts"]
    assert (counts["users"], counts["items"], counts["interactions"]) == (22_332, 12_086, 198_215)
