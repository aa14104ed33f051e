"""Assets come from the first source that answers, whole and verified, or not at all."""

import errno
import gzip
import io
import logging
import os
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from hashlib import md5, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rec_core.assets import (
    ASSETS,
    Asset,
    Bundle,
    Gunzip,
    Unzip,
    UrlSource,
    WheelSource,
    as_is,
    cached,
    describe,
    fetch,
    fetch_asset,
)
from rec_core.errors import AssetError
from rec_core.testing.site import Page
from rec_core.testing.site import Site as Pages

CONTENT = {"ratings.txt": b"1 2 3\n" * 1000, "films/titles.txt": b"Toy Story (1995)\n"}
HASHES = {name: sha256(content).hexdigest() for name, content in CONTENT.items()}


def archive(content: dict[str, bytes], prefix: str = "inside/") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, data in {**content, "not-wanted.txt": b"?"}.items():
            opened.writestr(prefix + name, data)
    return packed.getvalue()


class Site:
    """A web server on this machine; `asked` lists the paths that were requested."""

    def __init__(self) -> None:
        site = self
        self.asked: list[str] = []
        self.let_go = threading.Event()

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                body = archive({**CONTENT, "ratings.txt": b"tampered"} if "tampered" in self.path else CONTENT)
                match self.path.strip("/").partition(".")[0]:
                    case "missing":
                        return self.send_error(404)
                    case "silent":
                        site.let_go.wait(30)
                        return self.close()
                    case "page":
                        body = b"<html>please log in</html>"
                    case "plain":
                        body = CONTENT["ratings.txt"]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if "cut" in self.path:
                    self.wfile.write(body[: len(body) // 2])
                    return self.close()
                if "slow" in self.path:
                    self.wfile.write(body[:100])
                    self.wfile.flush()
                    site.let_go.wait(1.5)
                self.wfile.write(body[100:] if "slow" in self.path else body)

            def close(self) -> None:
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.let_go.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site():
    opened = Site()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("REC_HOME", str(home))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)  # the server is on this machine
    return home


def at(site: Site, page: str, name: str | None = None, **changes: object) -> UrlSource:
    source = UrlSource(name or page.partition(".")[0], f"{site.url}/{page}", HASHES, Unzip("inside/"))
    return replace(source, **changes)


def asset(*sources) -> Asset:
    return Asset("films", "dataset", "Films", "https://example.org", "free", "Someone 2020", sources)


def content_of(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def nothing_but_the_lock(cache: Path) -> bool:
    return [f.name for f in (cache / "assets/films").iterdir()] == [".lock"]


def test_the_first_source_that_answers_gives_exactly_the_promised_files(site, cache):
    fetched = fetch_asset(asset(at(site, "good.zip"), at(site, "other.zip")))
    assert fetched.source == "good"
    assert fetched.path == cache / "assets/films/good"
    assert content_of(fetched.path) == CONTENT
    assert site.asked == ["/good.zip"]


@pytest.mark.skipif(os.name == "nt", reason="locks are made otherwise there")
def test_where_a_file_system_has_no_locks_an_asset_is_fetched_all_the_same(site, monkeypatch):
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda fd, how: (_ for _ in ()).throw(OSError(errno.ENOTSUP, "no locks")))
    assert content_of(fetch_asset(asset(at(site, "good.zip"))).path) == CONTENT


def test_a_cached_asset_is_not_asked_for_again_even_from_a_later_source(site):
    first = fetch_asset(asset(at(site, "missing.zip"), at(site, "good.zip")))
    again = fetch_asset(asset(at(site, "missing.zip"), at(site, "good.zip")))
    assert first == again
    assert again.hash == first.hash
    assert site.asked == ["/missing.zip", "/good.zip"]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("missing.zip", "it answered 404"),
        ("cut.zip", "the connection broke off after"),
        ("page.zip", "it gave something that is not a whole zip archive"),
        ("silent.zip", "no answer within 0.3 s"),
    ],
)
def test_a_source_out_of_reach_is_named_in_one_line_and_the_next_is_tried(site, caplog, page, reason):
    with caplog.at_level(logging.WARNING):
        patience = 0.3 if "silent" in page else 8
        fetched = fetch_asset(asset(at(site, page, answer_timeout=patience), at(site, "good.zip")))
    assert fetched.source == "good"
    (line,) = caplog.messages
    assert f"films: {site.url}/{page} is out of reach: {reason}" in line
    assert "\n" not in line


def test_a_refused_connection_and_an_unknown_host_are_out_of_reach(site, caplog):
    refused = UrlSource("refused", "http://127.0.0.1:9/x.zip", HASHES, Unzip("inside/"))
    unknown = UrlSource("unknown", "http://no-such-host.invalid/x.zip", HASHES, Unzip("inside/"))
    started = time.perf_counter()
    with caplog.at_level(logging.WARNING):
        assert fetch_asset(asset(refused, unknown, at(site, "good.zip"))).source == "good"
    assert len(caplog.messages) == 2
    assert time.perf_counter() - started < 20


def test_when_nothing_answers_the_error_lists_every_source_with_its_reason(site, cache):
    with pytest.raises(AssetError, match=r"films is out of reach; tried") as error:
        fetch_asset(asset(at(site, "missing.zip"), at(site, "cut.zip")))
    assert "missing.zip: it answered 404" in str(error.value)
    assert "cut.zip: the connection broke off" in str(error.value)
    assert "https://example.org" in str(error.value)
    assert nothing_but_the_lock(cache)


def test_a_wrong_checksum_is_an_error_and_the_next_source_is_not_tried(site, cache):
    with pytest.raises(AssetError, match=r"ratings\.txt whose SHA-256 is [0-9a-f]{64}, wanted [0-9a-f]{64}"):
        fetch_asset(asset(at(site, "tampered.zip"), at(site, "good.zip")))
    assert site.asked == ["/tampered.zip"]
    assert nothing_but_the_lock(cache)


def test_an_archive_without_a_promised_file_is_an_error(site, cache):
    more = {**HASHES, "users.txt": "0" * 64}
    with pytest.raises(AssetError, match=r"holds no inside/users\.txt"):
        fetch_asset(asset(at(site, "good.zip", files=more)))
    assert nothing_but_the_lock(cache)


def test_a_single_file_needs_no_archive(site):
    alone = {"ratings.txt": HASHES["ratings.txt"]}
    fetched = fetch_asset(asset(at(site, "plain.txt", files=alone, unpack=as_is)))
    assert content_of(fetched.path) == {"ratings.txt": CONTENT["ratings.txt"]}


def test_a_damaged_copy_in_the_cache_is_noticed_and_fetched_again(site, caplog):
    films = asset(at(site, "good.zip"))
    path = fetch_asset(films).path
    (path / "ratings.txt").write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        assert cached(films) is None
        assert content_of(fetch_asset(films).path) == CONTENT
    assert "is damaged (ratings.txt)" in caplog.text
    assert len(site.asked) == 2


def test_an_untouched_copy_is_not_hashed_again_and_a_touched_one_is(site, monkeypatch):
    films = asset(at(site, "good.zip"))
    path = fetch_asset(films).path
    hashed = []
    from rec_core import assets

    whole = assets.file_hash
    monkeypatch.setattr(assets, "file_hash", lambda file: hashed.append(file.name) or whole(file))
    assert cached(films) is not None
    assert hashed == []
    os.utime(path / "ratings.txt", (1, 1))
    assert cached(films) is not None
    assert "ratings.txt" in hashed
    hashed.clear()
    assert cached(films) is not None
    assert hashed == []


FETCH = """
import sys
from rec_core.assets import Asset, Unzip, UrlSource, fetch_asset
url, *pairs = sys.argv[1:]
files = dict(pair.split("=") for pair in pairs)
asset = Asset("films", "dataset", "Films", "", "", "", (UrlSource("slow", url, files, Unzip("inside/")),))
print(fetch_asset(asset).path)
"""


def fetching(site: Site) -> subprocess.Popen:
    pairs = [f"{name}={digest}" for name, digest in HASHES.items()]
    command = [sys.executable, "-c", FETCH, f"{site.url}/slow.zip", *pairs]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_that_fetch_at_once_download_once_and_agree(site, cache):
    both = [fetching(site), fetching(site)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert {out.strip() for out, _ in said} == {str(cache / "assets/films/slow")}
    assert content_of(cache / "assets/films/slow") == CONTENT
    assert site.asked == ["/slow.zip"]


@pytest.mark.skipif(os.name == "nt", reason="Windows removes nothing that a killed process had open")
def test_a_killed_download_leaves_nothing_that_looks_whole_and_the_next_one_cleans_up(site, cache):
    process = fetching(site)
    while not site.asked:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not (cache / "assets/films/slow").exists()
    films = asset(at(site, "good.zip"))
    assert cached(films) is None
    assert content_of(fetch_asset(films).path) == CONTENT
    assert sorted(f.name for f in (cache / "assets/films").iterdir()) == [".lock", "good", "good.json"]


# several files, unknown hashes, unfinished downloads


RATINGS, TITLES = CONTENT["ratings.txt"], CONTENT["films/titles.txt"]
UNKNOWN = {"ratings.txt": None}


@pytest.fixture
def pages():
    contents = {"/ratings.txt": RATINGS, "/titles.gz": gzip.compress(TITLES), "/films.zip": archive(CONTENT)}
    with Pages({path: Page(body, etag=f'"{path}"') for path, body in contents.items()}) as opened:
        yield opened


def page(pages, path: str, files, unpack=as_is, **changes: object) -> UrlSource:
    return UrlSource("publisher", pages.url + path, files, unpack, attempts=1, **changes)


def both(pages, **changes: object) -> Asset:
    """A table and a packed one, each at its own address, without a published hash."""
    table = page(pages, "/ratings.txt", UNKNOWN, **changes)
    return asset(Bundle("publisher", (table, page(pages, "/titles.gz", {"titles.txt": None}, Gunzip()))))


def test_files_at_several_addresses_make_one_asset(pages, cache):
    fetched = fetch_asset(both(pages))
    assert content_of(fetched.path) == {"ratings.txt": RATINGS, "titles.txt": TITLES}
    assert [asked.path for asked in pages.asked] == ["/ratings.txt", "/titles.gz"]
    assert sorted(f.name for f in (cache / "assets/films").iterdir()) == [".lock", "publisher", "publisher.json"]


def test_a_hash_that_nobody_published_is_recorded_at_the_first_fetch_and_said(pages, caplog):
    with caplog.at_level(logging.INFO):
        fetched = fetch_asset(both(pages))
    hashes = {"ratings.txt": sha256(RATINGS).hexdigest(), "titles.txt": sha256(TITLES).hexdigest()}
    assert fetched.files == hashes
    assert fetched.recorded == ("ratings.txt", "titles.txt")
    assert "films: no checksum of ratings.txt, titles.txt was published; what came now is recorded in " in caplog.text
    assert cached(both(pages)) == fetched
    assert fetched.hash == sha256("".join(f"{n} {hashes[n]}\n" for n in sorted(hashes)).encode()).hexdigest()


def test_a_recorded_hash_is_checked_from_then_on(pages, caplog):
    path = fetch_asset(both(pages)).path
    os.utime(path / "ratings.txt", (1, 1))
    assert cached(both(pages)) is not None  # touched, but the same
    (path / "ratings.txt").write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        assert cached(both(pages)) is None
    assert "is damaged (ratings.txt)" in caplog.text
    assert content_of(fetch_asset(both(pages)).path)["ratings.txt"] == RATINGS


def test_without_its_record_a_copy_is_fetched_again(pages, cache, caplog):
    fetch_asset(both(pages))
    (cache / "assets/films/publisher.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert cached(both(pages)) is None
    assert "publisher.json says no more what is in" in caplog.text
    assert fetch_asset(both(pages)).recorded == ("ratings.txt", "titles.txt")
    assert len(pages.asked) == 4


def test_the_checksum_of_a_download_vouches_for_what_is_in_it(pages, caplog):
    whole = archive(CONTENT)
    pages.pages["/films.zip"].body = whole
    promised = f"md5:{md5(whole).hexdigest()}"
    inside = page(pages, "/films.zip", dict.fromkeys(CONTENT), Unzip("inside/"), checksum=promised)
    with caplog.at_level(logging.INFO):
        fetched = fetch_asset(asset(inside))
    assert fetched.recorded == ()
    assert "recorded" not in caplog.text
    assert content_of(fetched.path) == CONTENT
    other = replace(inside, checksum=f"md5:{'0' * 32}")  # another edition under the same name
    assert cached(asset(inside)) is not None
    assert cached(asset(other)) is None
    with pytest.raises(AssetError, match=r"/films\.zip gave a file whose MD5 is .*; nothing was kept"):
        fetch_asset(asset(other))


def test_each_file_of_an_asset_is_continued_by_itself(pages, cache):
    pages.pages["/titles.gz"].cuts = [10]
    with pytest.raises(AssetError, match=r"/titles\.gz: the connection broke off after 10 of .* they are kept"):
        fetch_asset(both(pages))
    kept = sorted(file.name.partition("-")[2] for file in (cache / "assets/films/.parts").iterdir())
    assert kept == ["ratings.txt", "titles.gz.part", "titles.gz.part.json"]
    assert content_of(fetch_asset(both(pages)).path) == {"ratings.txt": RATINGS, "titles.txt": TITLES}
    assert [(asked.path, asked.range) for asked in pages.asked] == [
        ("/ratings.txt", None),
        ("/titles.gz", None),
        ("/titles.gz", "bytes=10-"),
    ]
    assert not (cache / "assets/films/.parts").exists()


def test_a_mirror_is_asked_only_for_what_the_first_address_did_not_give(pages):
    def place(name: str, titles: str) -> Bundle:
        parts = (page(pages, "/ratings.txt", UNKNOWN), page(pages, titles, {"titles.txt": None}, Gunzip()))
        return Bundle(name, tuple(replace(part, name=name) for part in parts))

    fetched = fetch_asset(asset(place("publisher", "/gone.gz"), place("mirror", "/titles.gz")))
    assert fetched.source == "mirror"
    assert [asked.path for asked in pages.asked] == ["/ratings.txt", "/gone.gz", "/titles.gz"]


def test_a_wrong_checksum_of_one_file_spares_the_others(pages):
    wrong = both(pages)
    table = replace(wrong.sources[0].members[1], checksum=f"sha256:{'0' * 64}")
    wrong = asset(Bundle("publisher", (wrong.sources[0].members[0], table)))
    with pytest.raises(AssetError, match=r"/titles\.gz gave a file whose SHA-256 is"):
        fetch_asset(wrong)
    fetch_asset(both(pages))
    assert [asked.path for asked in pages.asked] == ["/ratings.txt", "/titles.gz", "/titles.gz"]


def locked(content: bytes) -> bytes:
    """A zip archive whose first file claims to need a password."""
    packed = bytearray(content)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        begin = packed.find(mark)
        packed[begin + at] |= 1
    return bytes(packed)


@pytest.mark.parametrize(
    ("path", "unpack", "damage", "reason"),
    [
        ("/films.zip", Unzip("inside/"), lambda body: body[:-30], "not a whole zip archive"),
        ("/films.zip", Unzip("inside/"), lambda body: body.replace(b"1 2 3", b"9 9 9", 1), "not a whole zip archive"),
        ("/films.zip", Unzip("inside/"), locked, "not a whole zip archive .*password"),
        ("/titles.gz", Gunzip(), lambda body: body[:-5], "not a whole gzip file"),
        ("/titles.gz", Gunzip(), lambda body: b"<html>" + body, "not a whole gzip file"),
        ("/titles.gz", Gunzip(), lambda body: body[:12] + b"\xff\xff" + body[14:], "not a whole gzip file"),
    ],
)
def test_a_damaged_archive_is_named_and_not_kept(pages, cache, path, unpack, damage, reason):
    pages.pages[path].body = damage(pages.pages[path].body)
    with pytest.raises(AssetError, match=f"{reason}"):
        fetch_asset(asset(page(pages, path, {"ratings.txt": None}, unpack)))
    assert nothing_but_the_lock(cache)


def test_an_asset_that_must_be_got_by_hand_says_how():
    by_hand = replace(asset(), manual="Ask Someone, and name the directory.")
    assert cached(by_hand) is None
    with pytest.raises(AssetError, match=r"^films cannot be fetched by a program\. Ask Someone, and name the"):
        fetch_asset(by_hand)


def test_a_way_by_hand_is_named_when_nothing_answers(pages):
    gone = replace(asset(page(pages, "/gone", UNKNOWN)), manual="Or ask Someone.")
    with pytest.raises(AssetError, match=r"it answered 404 .*\n.*name its directory instead\. Or ask Someone\."):
        fetch_asset(gone)


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder with one wheel that pip can see, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "filmpack-1.0.dist-info"
    with zipfile.ZipFile(folder / "filmpack-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in CONTENT.items():
            wheel.writestr(f"filmpack/data/{name}", data)
        wheel.writestr("filmpack/__init__.py", "raise SystemExit('imported')")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: filmpack\nVersion: 1.0\nRequires-Dist: absent\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_is_found_with_the_users_pip_settings_and_only_unzipped(site, wheels):
    source = WheelSource("index", "filmpack==1.0", HASHES, Unzip("filmpack/data/"))
    fetched = fetch_asset(asset(at(site, "missing.zip"), source))
    assert fetched.source == "index"
    assert content_of(fetched.path) == CONTENT


def test_a_wheel_that_pip_cannot_find_is_out_of_reach(site, wheels, caplog):
    source = WheelSource("index", "filmpack==2.0", HASHES, Unzip("filmpack/data/"))
    with caplog.at_level(logging.WARNING):
        assert fetch_asset(asset(source, at(site, "good.zip"))).source == "good"
    (line,) = caplog.messages
    assert "filmpack==2.0 on the Python package index is out of reach: No matching distribution" in line


def test_a_wheel_with_other_content_is_an_error(wheels):
    source = WheelSource("index", "filmpack==1.0", {"ratings.txt": "0" * 64}, Unzip("filmpack/data/"))
    with pytest.raises(AssetError, match=r"filmpack==1\.0 on the .* index gave a ratings\.txt whose SHA-256"):
        fetch_asset(asset(source))


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(AssetError, match=r"no asset is called 'ml-100'; did you mean 'ml-100k'\?"):
        fetch("ml-100")


def test_every_asset_states_terms_and_checksums_per_source():
    for name, listed in ASSETS.items():
        assert describe(name) is listed
        assert listed.name == name
        assert listed.licence
        assert listed.citation
        assert len({source.name for source in listed.sources}) == len(listed.sources) >= 1
        for source in listed.sources:
            assert source.files
            assert all(len(digest) == 64 for digest in source.files.values())


@pytest.mark.assets
def test_ml_100k_comes_from_the_package_index(cache):
    films = describe("ml-100k")
    fetched = fetch_asset(replace(films, sources=films.sources[1:]))
    assert fetched.source == "recbole"
    assert sorted(content_of(fetched.path)) == ["ml-100k.inter", "ml-100k.item", "ml-100k.user"]
    assert (fetched.path / "ml-100k.inter").read_bytes().count(b"\n") == 100_001
    assert cached(films) == replace(fetched, asset=films)
