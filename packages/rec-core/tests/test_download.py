"""A download that breaks off is taken up where it stopped, and only where the file is still the same."""

import io
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import md5, sha256
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rec_core import download as module
from rec_core.cli import Progress
from rec_core.download import Download, OutOfReach, in_bytes
from rec_core.errors import AssetError
from rec_core.testing.site import Asked, Page, Site

BODY = random.Random(7).randbytes(100_000)
SHA = f"sha256:{sha256(BODY).hexdigest()}"
TAG = '"one"'


@pytest.fixture
def site(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)  # the server is on this machine
    with Site({"/f.bin": Page(BODY, etag=TAG)}) as opened:
        yield opened


def at(site: Site, **changes: object) -> Download:
    """The page, tried once: the break itself can be looked at."""
    return replace(Download(f"{site.url}/f.bin", attempts=1, pause=0.01), **changes)


def left_in(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def break_off(site, path, after: int, **changes) -> Page:
    """Fetch with a connection that is cut, so that a part is left."""
    page = site.pages["/f.bin"]
    page.cuts = [after]
    with pytest.raises(OutOfReach):
        at(site, **changes).to(path)
    return page


def test_a_file_comes_whole_and_leaves_nothing_beside_it(site, tmp_path):
    at(site, checksum=SHA).to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert left_in(tmp_path) == ["x"]
    at(site, checksum=SHA).to(tmp_path / "x")  # there already: checked, not asked for
    assert site.asked == [Asked("/f.bin")]


def test_a_part_is_continued_with_exactly_the_missing_bytes(site, tmp_path):
    site.pages["/f.bin"].cuts = [30_000]
    with pytest.raises(OutOfReach, match=r"broke off after 30,000 of 100,000 bytes; they are kept"):
        at(site).to(tmp_path / "x")
    assert left_in(tmp_path) == ["x.part", "x.part.json"]
    assert (tmp_path / "x.part").read_bytes() == BODY[:30_000]
    at(site, checksum=SHA).to(tmp_path / "x")
    assert site.asked == [Asked("/f.bin"), Asked("/f.bin", "bytes=30000-", TAG)]
    assert (tmp_path / "x").read_bytes() == BODY
    assert left_in(tmp_path) == ["x"]


def test_a_cut_is_continued_at_once_as_often_as_there_are_attempts(site, tmp_path):
    site.pages["/f.bin"].cuts = [10_000, 20_000, 5_000]
    at(site, attempts=4).to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert [asked.range for asked in site.asked] == [None, "bytes=10000-", "bytes=30000-", "bytes=35000-"]
    site.pages["/f.bin"].cuts = [10_000, 20_000, 5_000]
    with pytest.raises(OutOfReach, match="35,000 of 100,000"):
        at(site, attempts=3).to(tmp_path / "y")
    assert (tmp_path / "y.part").stat().st_size == 35_000


def test_a_server_that_is_gone_after_the_cut_is_not_asked_for_ever(site, tmp_path):
    page = break_off(site, tmp_path / "x", 10_000)
    page.status = 503
    with pytest.raises(OutOfReach, match="it answered 503"):
        at(site, attempts=9).to(tmp_path / "x")
    assert len(site.asked) == 2
    assert (tmp_path / "x.part").stat().st_size == 10_000  # kept for better times


def test_the_modification_time_serves_where_there_is_no_strong_tag(site, tmp_path):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    for tag in (None, 'W/"weak"'):
        site.pages["/f.bin"] = Page(BODY, etag=tag, modified=date)
        break_off(site, tmp_path / "x", 40_000)
        at(site).to(tmp_path / "x")
        assert site.asked[-1] == Asked("/f.bin", "bytes=40000-", date)
        assert (tmp_path / "x").read_bytes() == BODY
        (tmp_path / "x").unlink()


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_nothing_is_kept_of_a_server_that_names_no_version(site, tmp_path, tag):
    site.pages["/f.bin"] = Page(BODY, etag=tag)
    break_off(site, tmp_path / "x", 40_000, attempts=4)
    assert left_in(tmp_path) == []
    assert len(site.asked) == 1


def test_a_server_without_ranges_sends_all_again_and_the_part_is_replaced(site, tmp_path, caplog):
    page = break_off(site, tmp_path / "x", 40_000)
    page.ranges = False
    with caplog.at_level(logging.INFO):
        at(site, checksum=SHA).to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert len(site.asked) == 2  # the whole file that came was taken, not asked for again
    assert "gives no rest of the file, or the file has changed; starting again" in caplog.text


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(site, tmp_path):
    break_off(site, tmp_path / "x", 40_000)
    newer = BODY[::-1]
    site.pages["/f.bin"] = Page(newer, etag='"two"')
    at(site).to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == newer
    assert site.asked[1:] == [Asked("/f.bin", "bytes=40000-", TAG)]


def test_a_file_that_became_shorter_than_the_part_is_fetched_from_its_start(site, tmp_path):
    break_off(site, tmp_path / "x", 40_000)
    site.pages["/f.bin"] = Page(BODY[:30_000], etag=TAG)  # the server answers 416
    at(site).to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY[:30_000]
    assert [asked.range for asked in site.asked[1:]] == ["bytes=40000-", None]


def test_a_range_of_a_file_with_another_length_or_tag_is_not_appended(site, tmp_path):
    class Careless(Page):
        def part(self, span, condition):
            """A server that ignores If-Range."""
            return super().part(span, None)

    for newer in (Careless(BODY + b"more", etag=TAG), Careless(BODY[::-1], etag='"two"')):
        site.pages["/f.bin"] = Page(BODY, etag=TAG)
        break_off(site, tmp_path / "x", 40_000)
        site.pages["/f.bin"] = newer
        at(site).to(tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == newer.body
        (tmp_path / "x").unlink()


def test_a_part_of_another_address_is_not_continued(site, tmp_path):
    break_off(site, tmp_path / "x", 40_000)
    site.pages["/g.bin"] = Page(BODY[::-1], etag=TAG)
    at(site, url=f"{site.url}/g.bin").to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY[::-1]
    assert site.asked[-1] == Asked("/g.bin")


@pytest.mark.parametrize("note", [None, b"", b"{", b'{"url": 1}', b"[]", b'{"surprise": 1}'])
def test_a_part_whose_note_is_gone_or_damaged_is_fetched_from_its_start(site, tmp_path, note):
    break_off(site, tmp_path / "x", 40_000)
    beside = tmp_path / "x.part.json"
    beside.unlink() if note is None else beside.write_bytes(note)
    at(site).to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert site.asked[-1] == Asked("/f.bin")


def test_a_part_that_was_whole_when_the_process_died_is_not_asked_for_again(site, tmp_path):
    break_off(site, tmp_path / "x", 99_999)
    (tmp_path / "x.part").write_bytes(BODY)
    at(site, checksum=SHA).to(tmp_path / "x")
    assert len(site.asked) == 1


def test_a_file_of_unknown_length_is_continued_too(site, tmp_path):
    site.pages["/f.bin"] = Page(BODY, etag=TAG, length=False)
    (tmp_path / "x.part").write_bytes(BODY[:25_000])
    (tmp_path / "x.part.json").write_text(f'{{"url": "{site.url}/f.bin", "validator": "\\"one\\"", "total": null}}')
    at(site, checksum=SHA).to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert [asked.range for asked in site.asked] == ["bytes=25000-"]


@pytest.mark.parametrize("kind", [sha256, md5])
def test_a_wrong_checksum_is_an_error_and_nothing_is_kept(site, tmp_path, kind):
    name = kind().name
    site.pages["/f.bin"] = Page(b"tampered", etag=TAG)
    wanted = f"{name}:{kind(BODY).hexdigest()}"
    with pytest.raises(AssetError) as error:
        at(site, checksum=wanted).to(tmp_path / "x")
    shown = {"sha256": "SHA-256", "md5": "MD5"}[name]
    found = kind(b"tampered").hexdigest()
    assert f"whose {shown} is {found}, wanted {kind(BODY).hexdigest()}; nothing was kept" in str(error.value)
    assert left_in(tmp_path) == []


def test_a_part_that_was_damaged_on_this_machine_costs_one_fetch_from_the_start(site, tmp_path, caplog):
    break_off(site, tmp_path / "x", 40_000)
    (tmp_path / "x.part").write_bytes(bytes(40_000))
    at(site, checksum=SHA).to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert [asked.range for asked in site.asked] == [None, "bytes=40000-", None]
    assert "is damaged (SHA-256 is " in caplog.text
    (tmp_path / "x").write_bytes(b"damaged")
    at(site, checksum=SHA).to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_redirect_is_followed_with_the_range(site, tmp_path):
    site.pages["/old.bin"] = Page(moved_to="/f.bin")
    old = at(site, url=f"{site.url}/old.bin")
    site.pages["/f.bin"].cuts = [1_000]
    with pytest.raises(OutOfReach):
        old.to(tmp_path / "x")
    old.to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert site.asked[-2:] == [Asked("/old.bin", "bytes=1000-", TAG), Asked("/f.bin", "bytes=1000-", TAG)]


@pytest.mark.parametrize(("page", "reason"), [(Page(status=404), "404"), (Page(status=416), "416")])
def test_an_error_of_the_server_is_named(site, tmp_path, page, reason):
    site.pages["/f.bin"] = page
    with pytest.raises(OutOfReach, match=f"it answered {reason} "):
        at(site).to(tmp_path / "x")
    assert left_in(tmp_path) == []


def test_a_server_that_says_nothing_is_given_up(site, tmp_path):
    site.pages["/f.bin"] = Page(silent=True)
    with pytest.raises(OutOfReach, match=r"no answer within 0\.2 s"):
        at(site, answer_timeout=0.2).to(tmp_path / "x")


def test_a_server_that_stops_sending_is_given_up_and_what_came_is_kept(site, tmp_path):
    site.pages["/f.bin"].stalls = [20_000]
    with pytest.raises(OutOfReach, match=r"broke off after 20,000 of 100,000 bytes; they are kept.*timed out"):
        at(site, connect_timeout=0.3).to(tmp_path / "x")
    at(site, checksum=SHA).to(tmp_path / "x")
    assert site.asked[-1].range == "bytes=20000-"


def test_a_file_that_does_not_fit_is_refused_before_it_is_fetched(site, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=99_999))
    with pytest.raises(AssetError, match=r"100\.0 kB are to come and 100\.0 kB are free at .* REC_HOME"):
        at(site).to(tmp_path / "x")
    assert left_in(tmp_path) == []
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    at(site).to(tmp_path / "x")


@given(cuts=st.lists(st.integers(0, 60_000), max_size=6))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wherever_the_connection_is_cut_the_file_is_right_in_the_end(site, tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("cuts")
    page = site.pages["/f.bin"]
    page.cuts = list(cuts)
    for _ in range(len(cuts) + 1):  # each call meets at least one cut, or is the last
        try:
            at(site, checksum=SHA).to(folder / "x")
        except OutOfReach:
            continue
        break
    assert (folder / "x").read_bytes() == BODY
    page.cuts = []


STOP = (
    "import sys; from rec_core.download import Download; from pathlib import Path; Download(sys.argv[1]).to(Path('x'))"
)


def stopped(site, tmp_path, how) -> str:
    """What a process says that is stopped in the middle of a download."""
    site.pages["/f.bin"].stalls = [50_000]
    with subprocess.Popen(
        [sys.executable, "-c", STOP, f"{site.url}/f.bin"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        assert site.stalled.wait(30)
        until = time.monotonic() + 30
        while not (tmp_path / "x.part").exists() or (tmp_path / "x.part").stat().st_size < 1:
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(how)
        return process.communicate(timeout=30)[1]


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
def test_ctrl_c_keeps_the_part_and_says_so(site, tmp_path):
    said = stopped(site, tmp_path, signal.SIGINT)
    assert "50.0 kB of f.bin are kept; the same command goes on from there" in said
    assert (tmp_path / "x.part").read_bytes() == BODY[:50_000]
    at(site, checksum=SHA).to(tmp_path / "x")
    assert site.asked[-1].range == "bytes=50000-"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_a_killed_process_leaves_a_part_that_the_next_one_continues(site, tmp_path):
    stopped(site, tmp_path, signal.SIGKILL)
    size = (tmp_path / "x.part").stat().st_size
    assert 0 < size <= 50_000
    at(site, checksum=SHA).to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert site.asked[-1].range == f"bytes={size}-"


def test_off_a_terminal_the_log_says_what_is_fetched_and_how_far_it_is(site, tmp_path, caplog):
    break_off(site, tmp_path / "x", 40_000)
    with caplog.at_level(logging.INFO):
        at(site).to(tmp_path / "x")
    assert f"fetching {site.url}/f.bin (100.0 kB), going on after 40.0 kB" in caplog.messages
    caplog.clear()
    with caplog.at_level(logging.INFO, "rec"), Progress("f.bin", every=0.0, unit="bytes") as progress:
        progress.start(2_500_000, 500_000)
        progress.advance(1_000_000)
        progress.start(None)
        progress.advance(300)
    first, second = caplog.messages
    assert first.startswith("f.bin: 1.5 MB of 2.5 MB, ")
    assert first.endswith("/s")
    assert second.startswith("f.bin: 300 bytes, ")


def test_on_a_terminal_a_bar_shows_bytes_and_speed(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with Progress("f.bin", unit="bytes") as progress:
        progress.start(30_000_000, 20_000_000)
        progress.advance(5_000_000)
    assert re.search(r"f\.bin .*25\.0/30\.0 MB.*/s", screen.getvalue(), re.DOTALL)


def test_sizes_are_in_decimal_units():
    assert [in_bytes(n) for n in (0, 1, 999, 1000, 999_949, 999_950, 5_917_549, 2.6e9, 3e12)] == [
        *("0 bytes", "1 byte", "999 bytes", "1.0 kB", "999.9 kB", "1.0 MB", "5.9 MB", "2.6 GB", "3.0 TB")
    ]


def test_the_name_of_a_file_is_the_end_of_its_address_without_the_query():
    assert Download("https://example.org/a/b.zip?key=c/d").name == "b.zip"
    assert Download("https://example.org/").name == "download"
