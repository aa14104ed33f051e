"""Texts of items: what each set of rules makes of real and of made-up text, beside a slow twin."""

import gzip
import html
import json
import re
import unicodedata
from html.entities import html5

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError, SettingsError
from rec_data.catalog_text import (
    _BLOCK,
    _INLINE,
    LC_REC_LIMIT,
    clean_items,
    clean_texts,
    cut_texts,
    folded,
)

CASES = {  # before: after, under `clean`
    "Salt &amp; Pepper": "Salt & Pepper",
    "Salt &amp;amp;amp; Pepper": "Salt & Pepper",
    "5&quot; &#9733; &#x2605; &frac12; &eacute;t&eacute;": '5" ★ ★ ½ été',
    "Acme&#153; 10&#150;20": "Acme™ 10–20",  # what windows-1252 has there, as browsers read it
    "8 1/2amp;quot; x 11amp; quot;": '8 1/2" x 11"',  # an earlier cleaning took the "&" away
    "guitar amp; cable": "guitar amp; cable",  # nothing says that this was an entity
    "Lamp;quot;": "Lamp;quot;",
    "amp;amp; and amp;quot;": 'amp;amp; and "',
    "AT&T, R&D, Q&A; &c; &notit; &unknown;": "AT&T, R&D, Q&A; &c; &notit; &unknown;",
    "?a=1&copy=2&reg=3": "?a=1&copy=2&reg=3",  # html.unescape would make signs of these
    "I <3 you, 1 < 2 > 0, a<b and c>d, <unknown>": "I <3 you, 1 < 2 > 0, a<b and c>d, <unknown>",
    "<b>Bold</b> H<sub>2</sub>O<br/>new<BR >line": "Bold H2O new line",
    '<p class="x" id=y>one</p><p>two</p>': "one two",
    "&lt;b&gt;hidden&lt;/b&gt;": "hidden",
    "<!-- .a > .b { color: red } -->text": "text",
    "<style type='text/css'>p { }</style>text<script>if (a < b) {}</script>": "text",
    "<<b>b>nested &am<i></i>p;": "nested &",
    " two  blanks\tand\r\nlines\u00a0\u3000\u2028here ": "two blanks and lines here",
    "bell\x07 nul\x00 c1\x85 ": "bell nul c1",
    "e\u0301 \u212b": "é Å",
    "می\u200cخواهم 👩\u200d🔬 \u202bעברית\u202c": "می\u200cخواهم 👩\u200d🔬 \u202bעברית\u202c",
    "&amp\u037e": "&",  # the Greek question mark is a semicolon in normal form C
    "&#0;&#xD800;&#1114112;": "\ufffd\ufffd\ufffd",
}
BLANK = ["", " ", "\n\t", "&nbsp;", "<br>", "<!-- -->", "\x00"]


def cleaned(text: str | None) -> str | None:
    return clean_texts(pl.Series([text], dtype=pl.String)).item()


@pytest.mark.parametrize(("before", "after"), CASES.items())
def test_clean_removes_what_a_web_page_left_and_nothing_else(before, after):
    assert cleaned(before) == after


@pytest.mark.parametrize("text", BLANK)
def test_a_text_of_nothing_but_blanks_and_markup_is_missing(text):
    assert cleaned(text) is None


def slow_clean(text: str) -> str | None:
    """The same rules over one text, character by character where that is plainer."""
    attributes = r"""(?:\s+[A-Za-z_:][-A-Za-z0-9_:.]*\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*/?>"""
    while True:
        before = text
        text = unicodedata.normalize("NFC", text)
        for broken in ("quot", "apos", "lt", "gt", "nbsp", "#[0-9]{1,7}", "#[xX][0-9A-Fa-f]{1,6}"):
            blank = " ?" if broken == "quot" else ""
            text = re.sub(rf"(?<!&)(?<![^\W\d_])amp;{blank}({broken});", r"&\1;", text)
        for name in set(re.findall(r"&([A-Za-z][0-9A-Za-z]{1,31};)", text)):
            if name in html5:
                text = text.replace("&" + name, "\ue000" + name + "\ue001")  # one level at a time
        text = re.sub("\ue000(.*?)\ue001", lambda m: html5[m[1]], text)
        text = re.sub(r"&#(?:[0-9]{1,7}|[xX][0-9A-Fa-f]{1,6});", lambda m: html.unescape(m[0]), text)
        text = re.sub(r"<!--.*?-->", " ", text, flags=re.DOTALL)
        for element in ("script", "style"):
            text = re.sub(rf"<{element}{attributes}.*?</{element}\s*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
        text = re.sub(rf"</?(?:{_BLOCK}){attributes}", " ", text, flags=re.IGNORECASE)
        text = re.sub(rf"</?(?:{_INLINE}){attributes}", "", text, flags=re.IGNORECASE)
        text = "".join(" " if unicodedata.category(c) == "Cc" or c.isspace() else c for c in text)
        text = " ".join(part for part in text.split(" ") if part)
        if text == before:
            return text or None


# fmt: off
PIECES = st.sampled_from([
    "a", "B", "1", " ", "  ", "\n", "\x00", "\x85", "\u00a0", "&", "amp;", "quot;", " quot;", "&amp;", "&lt;", "gt;",
    "<", ">", "<b>", "</b>", "<br/>", "<p id=x>", "<!--", "-->", "<style>", "</style>", "e", "\u0301", "#38;",
    "&#", "38;", "&nbsp;", ";", "/", "é", "漢", "\u212b", "\u200d", "🇩🇪", "&copy", "\u037e", "&notit;", '"',
])
# fmt: on
MESSY = st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(max_size=20))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.none(), MESSY), min_size=1, max_size=6))
@example(["&amp;amp;lt;b&amp;gt;"])
def test_clean_equals_its_slow_twin_and_a_second_cleaning_changes_nothing(texts):
    texts = [text if text is None else "".join(c for c in text if not "\ue000" <= c <= "\uf8ff") for text in texts]
    values = pl.Series(texts, dtype=pl.String)
    once = clean_texts(values)
    assert values.to_list() == texts  # what was given stays as it was
    assert once.to_list() == [None if text is None else slow_clean(text) for text in texts]
    assert clean_texts(once).to_list() == once.to_list()
    for text in once.drop_nulls():
        assert not any(unicodedata.category(c) == "Cc" for c in text)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_characters="&<", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1))
def test_text_without_anything_to_clean_only_changes_to_normal_form_c(text):
    assert cleaned(text.replace("amp;", "")) == (unicodedata.normalize("NFC", text.replace("amp;", "")) or None)


def test_lists_are_cleaned_entry_by_entry_and_joined():
    frame = pl.DataFrame(
        {
            "key": ["1", "2", "3", "4"],
            "title": ["A", " ", None, "D"],
            "features": [["a &amp; b", "", None, " c "], [], None, ["<br>"]],
            "paths": [[["Beauty", "Hair"], ["Beauty", "Skin"]], [[]], None, [["Hair"]]],
        }
    )
    clean, facts = clean_items(frame, "clean")
    assert clean.to_dict(as_series=False) == {
        "key": ["1", "2", "3", "4"],
        "title": ["A", None, None, "D"],
        "features": ["a & b, c", None, None, None],
        "paths": ["Beauty, Hair, Skin", None, None, "Hair"],
    }
    assert facts == {
        "rules": "clean",
        "fields": ["title", "features", "paths"],
        "without_title": 2,
        "changed": {"title": 1, "features": 2},  # against the same list joined as it came
    }
    as_it_came, facts = clean_items(frame, "as-is")
    assert as_it_came["features"].to_list() == ["a &amp; b,  c ", None, None, "<br>"]
    assert as_it_came["title"].to_list() == ["A", " ", None, "D"]
    assert facts["without_title"] == 2
    assert "changed" not in facts


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Strings &amp; things", "Strings & things."),
        ("Ends with many...", "Ends with many."),
        ("", "."),
        (None, "."),
        ("...", "."),
        (' <span class="x">a "quoted"</span>\nline\r\nend ', "a quotedlineend."),
        ("&lt;b&gt;x", "x."),
        ("x" * (LC_REC_LIMIT - 2), "x" * (LC_REC_LIMIT - 2) + "."),  # 1,999 characters with its stop
        ("x" * (LC_REC_LIMIT - 1), ""),
        (["one", "two &amp; three."], "one two & three."),
        ([], "."),
    ],
)
def test_lc_rec_ends_every_text_with_one_full_stop_and_empties_long_ones(before, after):
    dtype = pl.List(pl.String) if isinstance(before, list) else pl.String
    frame = pl.DataFrame({"key": ["k"], "description": pl.Series([before], dtype=dtype)})
    clean, facts = clean_items(frame, "lc-rec")
    assert clean["description"].item() == after
    assert facts.get("emptied", {}) == ({"description": 1} if after == "" else {})


def test_lc_rec_leaves_brands_and_categories_nearly_alone():
    frame = pl.DataFrame(
        {
            "key": ["1", "2", "3", "4"],
            "brand": ["by\n    Yamaha", "Byron & Co.", None, "by"],
            "category": [["Music ", "Strings", "</span></span>", "gone"], ["<b>"], [], None],
        }
    )
    clean, _ = clean_items(frame, "lc-rec")
    assert clean["brand"].to_list() == ["Yamaha", "Byron & Co.", None, "by"]
    assert clean["category"].to_list() == ["Music,Strings", None, None, None]


def test_llmemb_keeps_its_separator_unambiguous_and_leaves_statistics_out():
    frame = pl.DataFrame(
        {
            "key": ["1", "2"],
            "title": ["a;b\r\nc\nd", "x" * 120],
            "features": [["one; two", "three"], []],
            "salesRank": ["12 in Beauty", None],
            "also_buy": [["B1"], None],
            "imageURLHighRes": [["http://x"], None],
            "Review-Count": ["7", "9"],
        }
    )
    clean, facts = clean_items(frame, "llmemb")
    assert clean.columns == ["key", "title", "features"]
    assert clean["title"].to_list() == ["a.b c d", "x" * 100]
    assert clean["features"].to_list() == ["one. two, three", "none"]
    assert facts["left_out"] == ["salesRank", "also_buy", "imageURLHighRes", "Review-Count"]
    assert facts["cut"] == {"title": 1}
    named, facts = clean_items(frame, "llmemb", fields="salesRank,title", max_text=110)
    assert named.columns == ["key", "salesRank", "title"]
    assert len(named["title"][1]) == 110
    assert facts["left_out"] == ["features", "also_buy", "imageURLHighRes", "Review-Count"]


def test_fields_are_kept_in_the_order_asked_and_an_unknown_one_is_named_with_the_nearest():
    frame = pl.DataFrame({"key": ["1"], "title": ["a"], "brand": ["b"], "price": ["1"]})
    assert clean_items(frame, fields="price, title")[0].columns == ["key", "price", "title"]
    assert clean_items(frame, fields=["brand"])[1] == {
        "rules": "clean",
        "fields": ["brand"],
        "left_out": ["title", "price"],
    }
    assert clean_items(frame, fields="none")[0].columns == ["key"]
    with pytest.raises(SettingsError, match=r"no field 'titel'; did you mean 'title'\?"):
        clean_items(frame, fields="titel")
    with pytest.raises(SettingsError, match=r"no field ''"):
        clean_items(frame, fields="")
    with pytest.raises(SettingsError, match="names 'title' twice"):
        clean_items(frame, fields="title,title")


@pytest.mark.parametrize("column", [[1.5], [{"a": 1}], [[1, 2]], [[[["deep"]]]]])
def test_a_column_of_anything_but_text_and_lists_of_text_is_refused(column):
    with pytest.raises(DataError, match=r"item field 'x' holds .*; fields are text or lists of text"):
        clean_items(pl.DataFrame({"key": ["1"], "x": column}))


@pytest.mark.parametrize("dtype", [pl.Null, pl.List(pl.Null), pl.List(pl.List(pl.Null))])
@pytest.mark.parametrize("rules", ["as-is", "clean", "lc-rec", "llmemb"])
def test_a_column_in_which_nothing_is_known_is_fine(dtype, rules):
    frame = pl.DataFrame({"key": ["1"], "x": pl.Series([None], dtype=dtype)})
    assert clean_items(frame, rules)[0]["x"].to_list() == (["."] if rules == "lc-rec" else [None])
    assert clean_items(frame.clear(), rules)[0].schema == {"key": pl.String, "x": pl.String}


@pytest.mark.parametrize(
    ("text", "most", "short"),
    [
        ("abcdef", 3, "abc"),
        ("abc", 3, "abc"),
        ("ab cdef", 3, "ab"),
        ("abe\u0301", 3, "ab"),  # the accent stays with its letter
        ("ab👩\u200d🔬", 3, "ab"),
        ("ab👩\u200d🔬", 4, "ab"),
        ("ab👍🏽", 3, "ab"),
        ("🇩🇪🇫🇷🇮🇹", 3, "🇩🇪"),
        ("🇩🇪🇫🇷🇮🇹", 4, "🇩🇪🇫🇷"),
        ("a🇩🇪🇫🇷", 2, "a"),
        ("한\u1100\u1161", 2, "한"),
        ("a\r\nb", 2, "a"),
        ("e" + "\u0301" * 9, 4, "e" + "\u0301" * 3),  # one character alone is longer: cut all the same
    ],
)
def test_a_cut_tears_no_written_character_apart(text, most, short):
    values = pl.Series(["short", text])
    texts, cut = cut_texts(values, most)
    assert texts[1] == short
    assert cut == (len(text) > most) + (most < len("short"))
    assert values[1] == text


@settings(max_examples=100, deadline=None)
@given(st.lists(MESSY, max_size=5), st.integers(1, 12))
def test_a_cut_text_is_a_short_beginning_that_stays_clean(texts, most):
    clean, facts = clean_items(pl.DataFrame({"key": list("abcde")[: len(texts)], "t": texts}), max_text=most)
    again, more = clean_items(clean, max_text=most)
    for text, whole in zip(clean["t"], clean_texts(pl.Series(texts, dtype=pl.String)), strict=True):
        assert text is None or (len(text) <= most and whole.startswith(text))
    assert again.equals(clean)
    assert "changed" not in more
    assert sum(facts.get("cut", {}).values()) == sum(len(slow_clean(t) or "") > most for t in texts)


def test_field_names_fold_to_words_in_lower_case():
    names = {"salesRank": "sales_rank", "imageURLHighRes": "image_url_high_res", "Avg. Rating": "avg_rating"}
    assert {name: folded(name) for name in names} == names


def test_real_titles_lose_their_entities_and_nothing_else(real_data):
    with gzip.open(real_data / "amazon-beauty-2014" / "items.jsonl.gz", "rt", encoding="utf-8") as file:
        items = [json.loads(row) for row in file]
    frame = pl.DataFrame(
        {
            "key": [i["item_id"] for i in items],
            "title": [i["title"] for i in items],
            "a": [i["attributes"] for i in items],
        }
    )
    clean, facts = clean_items(frame)
    entity = re.compile(r"&#?\w+;|\s\s|[\x00-\x1f\x7f-\x9f]|^\s|\s$")
    assert facts["without_title"] == 0
    assert facts["changed"]["title"] == sum(bool(entity.search(i["title"])) for i in items)
    assert not any(entity.search(title) for title in clean["title"])
    assert all(
        html.unescape(i["title"]).split() == title.split() for i, title in zip(items, clean["title"], strict=True)
    )
