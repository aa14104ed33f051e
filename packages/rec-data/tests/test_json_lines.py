"""JSON lines are read so that every line is a row, a counted reason, or an error that names it."""

import ast
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError, RecError
from rec_data import json_lines
from rec_data.faults import Faults
from rec_data.json_lines import json_blocks, literal_as_json, read_json_lines

KEEP = ("user", "item", "when")
GOOD = b'{"user": "a", "item": 1, "when": 5}\n'


def rows_of(path: Path, faults: Faults, *, keep: Sequence[str] = KEEP, **options) -> list[tuple]:
    blocks = list(json_blocks(path, faults, wanted=lambda found: list(keep), **options))
    return [row for frame, _ in blocks for row in frame.rows()]


def rows(tmp_path, content: bytes, *, bad_rows="error", **options) -> tuple[list[tuple], dict[str, int]]:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    faults = Faults(bad_rows)
    return rows_of(path, faults, **options), faults.counts


def test_wanted_keys_become_columns_of_text(tmp_path):
    content = b'{"user": "a", "item": 12, "when": 1.5, "more": [1]}\n{"item": "0012", "user": "b", "when": 5.0}'
    assert rows(tmp_path, content) == ([("a", "12", "1.5"), ("b", "0012", "5")], {})
    assert rows(tmp_path, content.replace(b"\n", b"\r\n")) == ([("a", "12", "1.5"), ("b", "0012", "5")], {})


def test_missing_keys_null_and_empty_texts_are_null(tmp_path):
    content = b'{"user": "a", "item": null}\n{"user": "", "item": true, "when": false}\n'
    assert rows(tmp_path, content) == ([("a", None, None), (None, "true", "false")], {})


def test_numbers_keep_their_digits(tmp_path):
    long = str(2**70 + 1)
    content = f'{{"user": {long}, "item": -7, "when": 1e22}}\n{{"user": 0.1, "item": 1e-7, "when": -0.0}}\n'
    (first, second), _ = rows(tmp_path, content.encode())
    assert first == (long, "-7", "1" + "0" * 22)
    assert second == ("0.1", "0.0000001", "-0")


def test_a_byte_order_mark_is_no_text_and_gzip_is_unpacked(tmp_path):
    packed = gzip.compress(b"\xef\xbb\xbf" + GOOD)
    assert rows(tmp_path, packed)[0] == [("a", "1", "5")]
    with pytest.raises(DataError, match=r"log\.jsonl is not a whole gzip file"):
        rows(tmp_path, packed[:-9])


def test_blank_lines_are_counted(tmp_path):
    assert rows(tmp_path, b"\n" + GOOD + b" \t\r\n\n" + GOOD) == ([("a", "1", "5")] * 2, {"blank_line": 3})


BROKEN = [
    (b'{"user": "a", "item": 1', "is no JSON object"),
    (b"[1, 2]", "a list, wanted an object"),
    (b"null", "wanted an object"),
    (b'{"user": 0012}', "is no JSON object"),
    (b'{"user": NaN}', "NaN is no JSON number"),
    (b'{"user": -Infinity}', "-Infinity is no JSON number"),
    (b'{"user": 1e999}', "not finite"),
    (b'{"user": ["a"]}', "holds under 'user' a list, wanted text or a number"),
    (b'{"user": {"a": 1}}', "holds under 'user' an object, wanted text or a number"),
    (b'{"user": "a", "user": "b"}', "names 'user' twice"),
    (b'{"user": "a", "item": "x", "item": null}', "names 'item' twice"),
    (b'{"user": "\\ud800"}', "half of a surrogate pair under 'user'"),
    (b'{"user": "\\ude00\\ud83d"}', "half of a surrogate pair under 'user'"),
    (b'{"user": "a\0"}', "is no JSON object"),
    (b'{"user": "a\tb"}', "is no JSON object"),
    (b"{'user': 'a'}", "is no JSON object"),
    (b'{"user": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested too deep"),
    (b'{"user": ' + b"9" * 5_000 + b"}", "is no JSON object"),
]


@pytest.mark.parametrize(("line", "message"), BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_a_broken_line_is_named_or_counted(tmp_path, line, message, block_bytes):
    content = GOOD + b"\n" + line + b"\n" + GOOD
    with pytest.raises(DataError, match=rf"log\.jsonl, line 3 .*{message}"):
        rows(tmp_path, content, block_bytes=block_bytes)
    dropped = {"blank_line": 1, "bad_json": 1}
    assert rows(tmp_path, content, bad_rows="drop", block_bytes=block_bytes) == ([("a", "1", "5")] * 2, dropped)


def test_a_line_in_another_encoding_is_named_or_counted(tmp_path):
    content = GOOD + '{"user": "café"}\n'.encode("latin-1") + GOOD
    with pytest.raises(DataError, match=r"log\.jsonl, line 2 is not UTF-8 near '.*café"):
        rows(tmp_path, content)
    assert rows(tmp_path, content, bad_rows="drop")[1] == {"wrong_encoding": 1}
    with pytest.raises(DataError, match="is UTF-16; convert it to UTF-8"):
        rows(tmp_path, GOOD.decode().encode("utf-16"))


def test_what_other_keys_hold_does_not_matter(tmp_path):
    content = GOOD + b'{"user": "b", "x": {"user": "c"}, "y": "\\ud800", "z": [1], "z": 2, "w": "user"}\n'
    for block_bytes in (1, 1 << 20):
        assert rows(tmp_path, content, block_bytes=block_bytes)[0] == [("a", "1", "5"), ("b", None, None)]


@pytest.mark.parametrize("content", [b"", b"\n\n", b'[{"user": 1}]', b'{\n "user": 1\n}\n'])
def test_a_file_without_objects_on_its_lines_is_an_error(tmp_path, content):
    with pytest.raises(DataError, match=r"no JSON object|wanted an object"):
        rows(tmp_path, content)
    with pytest.raises(DataError, match=r"log\.jsonl holds no JSON object; wanted one per line"):
        rows(tmp_path, content, bad_rows="drop")


def test_one_document_over_several_lines_is_recognised(tmp_path):
    with pytest.raises(DataError, match="looks like one JSON document, not one object per line"):
        rows(tmp_path, json.dumps([{"user": "a"}], indent=1).encode())


def test_wanted_is_given_the_keys_of_the_first_block_and_may_refuse_them(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"a": 1}\n{"b": 2, "a": 3}\n')
    seen = []
    list(json_blocks(tmp_path / "log.jsonl", Faults(), wanted=lambda found: seen.append(list(found)) or ["a"]))
    assert seen == [["a", "b"]]


def test_places_are_physical_lines_whatever_the_blocks_are(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n" + GOOD + b"\n" + GOOD + GOOD)
    for size in (1, 40, 80, 1 << 20):
        blocks = json_blocks(path, Faults(), wanted=lambda found: KEEP, block_bytes=size)
        assert [where(i) for frame, where in blocks for i in range(frame.height)] == [
            f"{path}, line {n}" for n in (2, 4, 5)
        ]


def test_lines_of_ten_megabytes_are_read(tmp_path):
    long = "x" * 10_000_000
    content = GOOD + json.dumps({"user": long, "item": "b"}).encode() + b"\n" + GOOD
    assert rows(tmp_path, content)[0][1] == (long, "b", None)


# the rows of polars and those of the standard library

texts = st.text(st.characters(codec="utf-8"), max_size=6)
scalars = st.one_of(
    texts,
    st.sampled_from(["", "[1]", "{", "user", '"user": ', "\\", "\\ud83d", "😀", "null"]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
)
values = st.one_of(scalars, scalars, st.lists(scalars, max_size=2), st.dictionaries(st.sampled_from(KEEP), scalars))
objects = st.lists(st.tuples(st.sampled_from([*KEEP, "more"]), values), max_size=5)
odd_lines = st.sampled_from([line for line, _ in BROKEN[:-2]] + [b"", b"  "])


def spelled(pairs: list[tuple[str, object]], ascii_only: bool) -> bytes:
    """An object with its keys as they come, repeated ones too."""
    return ("{" + ", ".join(f'"{k}": {json.dumps(v, ensure_ascii=ascii_only)}' for k, v in pairs) + "}").encode()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.one_of(st.builds(spelled, objects, st.booleans()), odd_lines), min_size=1, max_size=8),
    size=st.integers(1, 200),
)
@example(
    content=[spelled([("user", x)], False) for x in (1e22, 1e-7, -0.0, 12345678901234567.5, 2**64, 5e-324)], size=9
)
@example(content=[b'{"user": "x"}', b'{"user": "\\\\ud83d\\ude00"}', b'{"user": "\\ud83d\\\\ude00"}'], size=9)
def test_blocks_by_polars_are_those_of_the_standard_library(tmp_path, monkeypatch, content, size):
    path = tmp_path / "log.jsonl"
    path.write_bytes(GOOD + b"\n".join(content))

    def outcome() -> object:
        faults = Faults("drop")
        return rows_of(path, faults, block_bytes=size), faults.counts

    fast = outcome()
    with monkeypatch.context() as patch:
        patch.setattr(json_lines, "_by_polars", lambda data, keep: None)
        assert fast == outcome()


def test_polars_reads_what_is_usual(tmp_path):
    data = b'{"user": "[a", "item": 1, "when": 1.5, "more": {"x": null}}\n{"user": "\\ud83d\\ude00", "item": 2}\n'
    frame = json_lines._by_polars(data, KEEP)
    assert frame is not None
    assert frame.rows() == [("[a", "1", "1.5"), ("😀", "2", None)]


# tables with lists


def table(tmp_path, *lines: object, **options) -> pl.DataFrame:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return read_json_lines(path, **options).frame


def test_lists_stay_lists_and_objects_become_json(tmp_path):
    frame = table(
        tmp_path,
        {"id": 1, "tags": ["a", 2, None, ""], "paths": [["a", "b"], ["c"]], "about": {"é": [1.5, {"x": None}]}},
        {"id": "2", "tags": [], "deep": [[["a", 1]]], "about": {}},
    )
    assert frame.schema == {
        "id": pl.String,
        "tags": pl.List(pl.String),
        "paths": pl.List(pl.List(pl.String)),
        "about": pl.String,
        "deep": pl.List(pl.List(pl.String)),
    }
    assert frame.rows() == [
        ("1", ["a", "2", None, ""], [["a", "b"], ["c"]], '{"é": [1.5, {"x": null}]}', None),
        ("2", [], None, "{}", [['["a", 1]']]),
    ]


@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_a_column_is_as_deep_as_its_deepest_value(tmp_path, block_bytes):
    frame = table(
        tmp_path,
        {"a": "x", "b": "y", "c": None},
        {"a": ["z"], "b": [["w"], "v", None], "d": "late"},
        {"a": None, "b": ["u"], "c": None},
        block_bytes=block_bytes,
    )
    assert frame.to_dict(as_series=False) == {
        "a": [["x"], ["z"], None],
        "b": [[["y"]], [["w"], ["v"], None], [["u"]]],
        "c": [None, None, None],
        "d": [None, "late", None],
    }


def test_a_table_tells_its_keys_and_places(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": 1}\n\n{"id": 2, "x": 3}\n')
    faults = Faults()
    found = read_json_lines(path, wanted=["x", "y"], faults=faults)
    assert (found.keys, found.frame.rows(), found.where(1)) == (("id", "x"), [(None,), ("3",)], f"{path}, line 3")
    assert faults.counts == {"blank_line": 1}


def test_a_table_refuses_what_has_no_meaning(tmp_path):
    for value, message in (("[1e999]", "not finite"), ('{"x": {"y": NaN}}', "NaN"), ('["\\ud800"]', "surrogate")):
        with pytest.raises(DataError, match=message):
            table(tmp_path, {"id": 1}, f'{{"id": {value}}}')
    with pytest.raises(DataError, match="line 2 holds under 'id' an object that names 'a' twice"):
        table(tmp_path, {"id": 1}, '{"id": {"a": 1, "a": 2}}')
    with pytest.raises(DataError, match="over 1000 different keys"):
        table(tmp_path, *({f"k{i}": 1} for i in range(1001)))


# Python literals


def test_python_literals_are_read_where_they_are_expected(tmp_path):
    content = (
        b"{u'user': u'it\\'s \"a\" \\xe9\\n', 'item': 0.5, 'when': True}\n" + GOOD + b"{'user': None, 'item': 1_0}\n"
    )
    expected = [('it\'s "a" é\n', "0.5", "true"), ("a", "1", "5"), (None, "10", None)]
    assert rows(tmp_path, content, literals=True) == (expected, {})
    with pytest.raises(DataError, match="line 1 is no JSON object"):
        rows(tmp_path, content)


@pytest.mark.parametrize(
    "line",
    [
        b"{'user': open('x')}",
        b"{'user': __import__('os').getcwd()}",
        b"{'user': 1 if 1 else 2}",
        b"{'user': b'a'}",
        b"{'user': {1}}",
        b"{'user': 1j}",
        b"{'user': 1e999}",
        b"{1: 2}",
        b"{'user': 'a', 'user': 'b'}",
        b"{'user': 1, 'user': '\\a'}",
        b"{'user': '\\ud800'}",
        b"{[]: 1}",
        b"{'a': " + b"(" * 5_000 + b")" * 5_000 + b"}",
        b"'user'",
        b"{'user': 'a\\",
        b"{'user': 'a\0'}",
    ],
)
def test_a_literal_that_is_no_plain_object_is_named_or_counted(tmp_path, line):
    content = GOOD + line + b"\n"
    with pytest.raises(DataError, match=r"log\.jsonl, line 2 "):
        rows(tmp_path, content, literals=True)
    assert rows(tmp_path, content, literals=True, bad_rows="drop") == ([("a", "1", "5")], {"bad_json": 1})


def test_surrogate_pairs_of_a_literal_are_put_together(tmp_path):
    content = b"{'user': '\\ud83d\\ude00', 'item': '\\\\ \\ud83d\\ude00'}\n"
    assert rows(tmp_path, content, literals=True)[0] == [("😀", "\\ 😀", None)]


literals = st.recursive(
    st.one_of(texts, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(texts, literals, max_size=4), st.sampled_from(["", "u"]))
def test_a_literal_as_json_is_the_value_that_python_reads_or_nothing(value, prefix):
    line = repr(value)
    if prefix and "'" not in "".join(value):
        line = line.replace("{'", "{u'")
    try:
        assert json.loads(literal_as_json(line)) == ast.literal_eval(line)
    except ValueError:
        assert "\\" in line  # the only texts that are left to ast.literal_eval


@settings(deadline=None, max_examples=200)
@given(st.text("'\"\\u{}[]():, x0\n", max_size=12))
def test_what_is_no_literal_never_becomes_json_by_chance(text):
    """Anything that json then accepts is what Python reads."""
    line = "{'a': " + text + "}"
    try:
        value = json.loads(literal_as_json(line))
    except ValueError:
        return
    assert value == ast.literal_eval(line)


def test_errors_are_the_users_to_mend(tmp_path):
    with pytest.raises(RecError, match="there is no file"):
        rows_of(tmp_path / "none.jsonl", Faults())


def test_the_real_items_of_beauty(real_data):
    path = real_data / "amazon-beauty-2014" / "items.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    found = read_json_lines(path)
    assert (found.frame.height, found.keys) == (12_086, ("item_id", "title", "attributes"))
    titles, attributes = found.frame["title"], found.frame["attributes"]
    assert titles.null_count() == 0
    assert titles.len() - titles.n_unique() == 28  # titles that were there before
    assert (titles.str.len_chars().max(), titles.str.contains("\n").sum()) == (879, 1)
    assert titles.str.contains(r"&\w+;|&#\d+;").sum() == 1_234  # entities stay as they are
    assert attributes.dtype == pl.List(pl.String)
    assert attributes.list.contains("").sum() == 18
