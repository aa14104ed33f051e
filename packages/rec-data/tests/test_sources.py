"""Public datasets by name: what the table promises, and what `fetch` does with it."""

import gzip
import io
import json
import os
import re
import zipfile
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files

import pytest

from rec_core.artifacts import open_artifact
from rec_core.assets import ASSETS, Bundle
from rec_core.download import Download
from rec_core.errors import SettingsError
from rec_core.testing.site import Page, Site
from rec_data import sources
from rec_data.config import PrepareSettings, ReadSettings
from rec_data.prepare import prepare

# the table itself


def test_the_table_is_installed_with_the_package():
    assert (files("rec_data") / "sources.toml").is_file()


def test_every_dataset_states_terms_edition_and_a_way_to_get_it():
    known = sources.data_sources()
    assert len(known) > 80
    for name, source in known.items():
        assert source.asset.name == name
        assert all((source.asset.title, source.asset.licence, source.asset.citation, source.brief, source.version))
        assert source.asset.sources or source.asset.manual
        for place in source.asset.sources:
            assert place.files
            for url in re.findall(r"\S+://\S+", str(place)):
                assert url.startswith("http")
        for expected in source.expected:
            assert expected.users > 0 < expected.items
            assert (expected.interactions or 10**12) >= max(expected.users, expected.items)
            assert expected.said_by


def test_every_dataset_can_be_read_with_the_options_of_the_table():
    for source in sources.data_sources().values():
        settings = source.settings(PrepareSettings())
        assert settings.format == source.format
        assert settings.source_version == source.source_version
        assert (source.source_version is not None) == (source.format in ("amazon", "yelp"))
        assert replace(settings, **source.suggest)


def test_ml_100k_is_the_asset_that_core_knows():
    assert sources.data_sources()["ml-100k"].asset is ASSETS["ml-100k"]


def test_titles_state_the_counts_that_are_expected_of_the_whole():
    """A slip of the pen in one of them would show."""
    for name, source in sources.data_sources().items():
        numbers = {int(n.replace(",", "")) for n in re.findall(r"\d{1,3}(?:,\d{3})+|(?<= by )\d+", source.asset.title)}
        whole = [e for e in source.expected if e.options.get("k_core") == 1]
        for expected in whole if numbers else ():
            counts = {expected.users, expected.items, expected.interactions} - {None}
            assert numbers <= counts | {n for n in numbers if n < 1000}, name


REAL = {
    "ml-100k": "ml-100k",
    "ml-1m": "ml-1m",
    "ml-latest-small": "ml-latest-small",
    "lastfm-hetrec": "lastfm-hetrec",
    "lightgcn-lastfm": "lastfm-hetrec/lightgcn-format",
}


@pytest.mark.parametrize("name", REAL)
def test_the_expected_counts_are_those_of_the_real_files(name, real_data, tmp_path):
    source = sources.data_sources()[name]
    for i, expected in enumerate(source.expected):
        whole = "given" if name.startswith("lightgcn") else "ratio"  # splits that need no times
        asked = source.settings(PrepareSettings(**expected.options, split=whole, ratio_order="random"))
        made = prepare(real_data / REAL[name], tmp_path / f"{i}", asked)
        counts = made.manifest["counts"]
        assert (counts["users"], counts["items"], counts["interactions"]) == (
            *(expected.users, expected.items, expected.interactions),
        )
        assert source.compared(asked, counts) == f"{sources.AS_EXPECTED} ({expected.said_by})"


# the format of the table


TABLE = """
[publisher.someone]
licence = "Free."
brief = "free"
citation = "Someone 2020"
homepage = "https://example.org/films"
version = "1"
at = ["https://example.org/data/", "https://example.com/copy/"]

[dataset.films]
title = "Films"
publisher = "someone"
format = "table"
path = "films.csv"
download = ["films.csv", { path = "more/about.zip", unpack = "zip", prefix = "a/", files = ["x.txt", "y.txt"] }]
expected = [{ counts = [3, 4, 10], said_by = "us", k_core = 1 }]
"""


def test_an_address_is_made_of_each_base_and_the_path():
    films = sources.parse(TABLE, "t")["films"]
    first, second = films.asset.sources
    assert isinstance(first, Bundle)
    assert [member.url for member in first.members] == [
        "https://example.org/data/films.csv",
        "https://example.org/data/more/about.zip",
    ]
    assert [member.url for member in second.members] == [
        "https://example.com/copy/films.csv",
        "https://example.com/copy/more/about.zip",
    ]
    assert (first.name, second.name) == ("publisher", "mirror-1")
    assert list(first.files) == ["films.csv", "x.txt", "y.txt"]
    assert (
        films.asset.manual
        == "With films.csv, x.txt, y.txt in DIR: rec-data prepare DIR/films.csv OUTPUT --format table"
    )


def changed(old: str, new: str) -> str:
    assert old in TABLE
    return TABLE.replace(old, new, 1)


WRONG = {
    "no TOML": (changed("[dataset.films]", "[dataset.films"), "t: "),
    "unknown table": ("[datasets.x]\n" + TABLE, "t: unknown key 'datasets'; did you mean 'dataset'?"),
    "unknown key": (
        changed("path =", "pth ="),
        "t, dataset.films: unknown key 'pth'; did you mean 'path'?",
    ),
    "unknown key of a publisher": (
        changed("brief", "breif"),
        "t, publisher.someone: brief is missing",
    ),
    "unknown key of a download": (
        changed("prefix =", "prefx ="),
        "t, dataset.films, download: unknown key 'prefx'; did you mean 'prefix'?",
    ),
    "no title": (changed('title = "Films"', ""), "t, dataset.films: title is missing"),
    "title of another type": (changed('title = "Films"', "title = 1"), "t, dataset.films: title is text; got 1"),
    "unknown publisher": (
        changed('publisher = "someone"', 'publisher = "somone"'),
        "t, dataset.films: no publisher 'somone'; did you mean 'someone'?",
    ),
    "unknown format": (changed('"table"', '"tabel"'), "--format is one of auto, movielens"),
    "unknown option": (
        changed("k_core = 1", "k_corr = 1"),
        "t, dataset.films, expected: unknown option 'k_corr'; did you mean 'k_core'?",
    ),
    "senseless option": (changed("k_core = 1", "k_core = 0"), "t, dataset.films, expected: --k-core is at least 1"),
    "two counts too few": (changed("[3, 4, 10]", "[3]"), "counts are users, items and, where known, interactions"),
    "no address": (changed("https://example.org/data/", "example.org"), "an address is http(s)://host/...; got 'exam"),
    "no homepage": (changed("https://example.org/films", "films"), "an address is http(s)://host/...; got 'films'"),
    "unknown packing": (
        changed('unpack = "zip"', 'unpack = "zp"'),
        "unpack is zip or gzip; got 'zp'; did you mean 'zip",
    ),
    "no files of an archive": (changed('["x.txt", "y.txt"]', "[]"), "files is a list of texts, at least one; got []"),
    "short checksum": (changed('prefix = "a/"', 'md5 = "12"'), "md5 is 32 hexadecimal digits; got '12'"),
    "two files of one name": (changed('["x.txt"', '["films.csv"'), "two downloads give a file of the same name"),
    "path of nothing": (changed('path = "films.csv"', 'path = "x.csv"'), "path 'x.csv' is none of its files"),
    "no way to get it": (re.sub("download = .*", "", TABLE).replace('path = "films.csv"', ""), "neither download nor"),
    "no edition": (changed('version = "1"', ""), "t, dataset.films: version is missing"),
    "capital name": (changed("dataset.films", "dataset.Films"), "a name is small letters, digits and hyphens"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_in_a_table_is_named_with_its_place(text, message):
    with pytest.raises(SettingsError) as error:
        sources.parse(text, "t")
    assert message in str(error.value)


def test_options_that_were_asked_for_win_over_the_table():
    gowalla = sources.data_sources()["gowalla"]
    assert gowalla.settings(ReadSettings()).column_names == "user,time,latitude,longitude,place"
    assert gowalla.settings(ReadSettings(item_column="latitude")).item_column == "latitude"
    other = gowalla.settings(ReadSettings(format="json-lines"))
    assert (other.format, other.separator) == ("json-lines", None)


def test_counts_are_compared_where_the_same_rows_are_asked_for():
    films = sources.parse(TABLE, "t")["films"]
    same = {"users": 3, "items": 4, "interactions": 10}
    assert films.compared(PrepareSettings(k_core=1), same) == "users, items and interactions are as expected (us)"
    assert films.compared(PrepareSettings(user_k_core=1, item_k_core=1, seed=9, split="ratio"), same) is not None
    said = films.compared(PrepareSettings(k_core=1), {"users": 3, "items": 5, "interactions": 11})
    assert said == "expected 4 items, 10 interactions (us)"
    assert films.compared(PrepareSettings(k_core=2), same) is None
    assert films.compared(PrepareSettings(k_core=1, min_rating=3), same) is None


# the command


EVENTS = "".join(f"{user}\t{item}\t{user * 10 + item}\n" for user in range(3) for item in range(4))


def zipped(**members: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in members.items():
            archive.writestr(f"inside/{name}.txt", text)
    return packed.getvalue()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A publisher on this machine, and a table with its datasets."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    archive = zipped(events=EVENTS, notes="-")
    pages = {
        "/events.tsv.gz": Page(gzip.compress(EVENTS.encode() * 500), etag='"e"'),
        "/about.txt": Page(b"about", etag='"a"'),
        "/films.zip": Page(archive, etag='"z"'),
    }
    with Site(pages) as opened:
        table = f"""
[publisher.someone]
licence = "Free for all."
brief = "free"
citation = "Someone 2020"
homepage = "https://example.org/films"
version = "1"
format = "table"
at = ["{opened.url}/"]

[dataset.events]
title = "Events"
publisher = "someone"
path = "events.tsv.gz"
download = ["events.tsv.gz", "about.txt"]
expected = [
    {{ counts = [3, 4, 12], said_by = "us", k_core = 1 }},
    {{ counts = [3, 4, 6000], said_by = "us", k_core = 1, duplicates = "all" }},
]

[dataset.events.read]
separator = "tab"
column_names = "who,what,when"
user_column = "who"
item_column = "what"
timestamp_column = "when"

[dataset.films]
title = "Films"
publisher = "someone"

[[dataset.films.download]]
path = "films.zip"
size = {len(archive)}
sha256 = "{sha256(archive).hexdigest()}"
unpack = "zip"
prefix = "inside/"
files = ["events.txt"]

[dataset.secret]
title = "Secret"
publisher = "someone"
manual = "Ask Someone for it."
"""
        monkeypatch.setenv("REC_HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sources, "table_text", lambda: table)
        sources.data_sources.cache_clear()
        yield opened
    sources.data_sources.cache_clear()


def test_fetch_says_what_came_from_where_and_what_to_do_next(rec_data, site, tmp_path):
    said = rec_data("fetch", "events")
    assert said.code == 0
    assert f"{tmp_path}/home/assets/events/publisher\n" in said.out
    digest = sha256(b"about").hexdigest()
    assert re.search(rf"about\.txt +5 bytes  SHA-256 {digest[:12]}\.\.\., recorded now: nobody published it", said.out)
    assert "licence: Free for all.\nnext: rec-data prepare events runs/events\n" in said.out
    said = rec_data("fetch", "films")
    assert "recorded" not in said.out + said.err
    assert [asked.path for asked in site.asked] == ["/events.tsv.gz", "/about.txt", "/films.zip"]
    assert json.loads(rec_data("fetch", "films", "--json").out)["recorded"] == []
    assert len(site.asked) == 3  # all of it from the cache


def test_prepare_reads_it_from_the_cache_as_the_table_says(rec_data, site, tmp_path):
    rec_data("fetch", "events")
    site.pages.clear()
    said = rec_data("prepare", "events", tmp_path / "out", "--k-core", 1)
    assert said.code == 0, said.err
    assert "3 users, 4 items, 12 interactions of 6,000 lines (dropped: duplicate 5,988)" in said.out
    made = open_artifact(tmp_path / "out", "dataset")
    about = made.manifest["source"]
    assert (about["asset"], about["from"], about["licence"]) == ("events", "publisher", "Free for all.")
    assert about["trusted_on_first_use"] == ["events.tsv.gz", "about.txt"]
    assert about["compared"] == "users, items and interactions are as expected (us)"
    assert (made.settings["format"], made.settings["user_column"]) == ("table", "who")
    said = rec_data("prepare", "events", tmp_path / "most", "--k-core", 1, "--until", "1970-01-01", "--max-events", 3)
    assert "compared" not in open_artifact(tmp_path / "most", "dataset").manifest["source"]


def test_an_interrupted_fetch_exits_with_130_and_goes_on_when_it_is_given_again(rec_data, site, monkeypatch, tmp_path):
    read, chunks = Download._read, []
    size = len(site.pages["/events.tsv.gz"].body)

    def stopped_after_some(answer, have, version):
        if chunks:
            raise KeyboardInterrupt
        chunks.append(answer.read1(size // 2))
        return chunks[0]

    monkeypatch.setattr(Download, "_read", staticmethod(stopped_after_some))
    said = rec_data("fetch", "events")
    assert said.code == 130
    assert re.search(r"^stopped; .* of events\.tsv\.gz are kept; the same command goes on from there$", said.err, re.M)
    (part,) = (tmp_path / "home/assets/events/.parts").glob("*.part")
    assert part.read_bytes() == chunks[0]
    monkeypatch.setattr(Download, "_read", staticmethod(read))
    assert rec_data("fetch", "events").code == 0
    assert [asked.range for asked in site.asked] == [None, f"bytes={len(chunks[0])}-", None]


def test_a_cut_connection_is_continued_within_the_command(rec_data, site, monkeypatch):
    monkeypatch.setattr("rec_core.download.time.sleep", lambda seconds: None)
    site.pages["/films.zip"].cuts = [50]
    assert rec_data("fetch", "films").code == 0
    assert [asked.range for asked in site.asked] == [None, "bytes=50-"]


@pytest.mark.parametrize(
    ("words", "pages", "message"),
    [
        (["fetch", "film"], {}, "no dataset is called 'film'; did you mean 'films'? (rec-data fetch --list shows all"),
        (["fetch"], {}, "name a dataset, or pass --list to see all of them"),
        (["fetch", "secret"], {}, "secret cannot be fetched by a program. Ask Someone for it."),
        (["prepare", "secret", "out"], {}, "secret cannot be fetched by a program. Ask Someone for it."),
        (["prepare", "film", "out"], {}, "no asset of that name; did you mean 'films'?"),
        (["inspect", "film"], {}, "no asset of that name; did you mean 'films'?"),
        (["fetch", "films"], {"/films.zip": Page(b"other")}, "films.zip gave a file whose SHA-256 is "),
        (["fetch", "films"], {"/films.zip": Page(status=404)}, "it answered 404"),
        (["fetch", "events"], {"/about.txt": Page(status=500)}, "/about.txt: it answered 500"),
    ],
)
def test_what_cannot_be_fetched_gives_one_message_and_exit_code_2(rec_data, site, words, pages, message):
    site.pages |= pages
    said = rec_data(*words)
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_when_nothing_answers_the_way_by_hand_is_named(rec_data, site):
    site.pages.clear()
    said = rec_data("fetch", "events")
    assert said.code == 2
    assert "With events.tsv.gz, about.txt in DIR: rec-data prepare DIR/events.tsv.gz OUTPUT --format table" in said.err


def test_output_takes_a_copy_and_never_replaces_anything(rec_data, site, tmp_path):
    said = rec_data("fetch", "events", "--output", tmp_path / "raw/events")
    assert said.code == 0, said.err
    assert sorted(file.name for file in (tmp_path / "raw/events").iterdir()) == ["about.txt", "events.tsv.gz"]
    assert [file.name for file in (tmp_path / "raw").iterdir()] == ["events"]
    (line,) = [line for line in said.out.splitlines() if line.startswith("next: ")]
    words = line.removeprefix("next: rec-data ").replace("runs/events", str(tmp_path / "out")).split()
    assert rec_data(*words, "--k-core", 1).code == 0
    said = rec_data("fetch", "events", "--output", tmp_path / "raw/events")
    assert said.code == 2
    assert "raw/events exists already; choose another directory" in said.err


def test_the_list_shows_name_size_terms_and_title(rec_data, site):
    rec_data("fetch", "films")
    said = rec_data("fetch", "--list")
    assert said.code == 0
    size = len(site.pages["/films.zip"].body)
    assert re.search(rf"^films \* +{size} bytes  free\n    Films$", said.out, re.M)
    assert re.search(r"^secret +by hand  free\n    Secret$", said.out, re.M)
    assert re.search(r"^events +size \?  free\n    Events$", said.out, re.M)
    assert said.out.endswith("3 datasets, * in the cache\n")
    assert rec_data("fetch", "--list", "fil").out.endswith("1 dataset, * in the cache\n")
    listed = {one["name"]: one for one in json.loads(rec_data("fetch", "--list", "--json").out)}
    assert listed["films"]["is_here"]
    assert not listed["events"]["is_here"]
    (first, _) = listed["events"]["expected"]
    assert first == {"users": 3, "items": 4, "interactions": 12, "said_by": "us", "options": {"k_core": 1}}


def test_inspect_shows_how_a_dataset_is_read_and_what_to_expect(rec_data, site):
    said = rec_data("inspect", "events").out
    for text in (
        "Free for all.",
        "Someone 2020",
        "separator: tab",
        "3 users, 4 items, 12 interactions (us), --k-core 1",
    ):
        assert text in re.sub(r"\s*│\n│\s*│\s*", " ", said)
    about = json.loads(rec_data("inspect", "events", "--json").out)
    assert about["cached"] is None
    rec_data("fetch", "events")
    assert json.loads(rec_data("inspect", "events", "--json").out)["cached"].endswith("assets/events/publisher")
