"""Texts of items (and users): which fields stay, how their text is cleaned, how lists become text."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html.entities import html5
from typing import Any

import polars as pl

from rec_core.errors import DataError, SettingsError, nearest
from rec_data.config import TextRules

NONE = "none"
LC_REC_LIMIT = 2_000
LLMEMB_LIMIT = 100
BY_LINE = r"(?i)^\s*by[ \t]*[\r\n]+\s*"
_PATH_FIELDS = ("category", "categories")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


STATISTICS = _names(
    "average_rating avg_rating mean_rating rating_mean rating_average avg_score average_score rating_number "
    "rating_count ratings_count num_ratings number_of_ratings n_ratings rating_num review_count reviews_count "
    "num_reviews number_of_reviews n_reviews total_reviews review_number stars rank sales_rank best_sellers_rank "
    "bestseller_rank popularity popularity_rank vote_count vote_average num_votes play_count playcount listeners "
    "listener_count scrobbles num_plays view_count num_views purchase_count num_purchases owners n_owners "
    "checkin_count interaction_count n_interactions download_count num_downloads recommendations "
    "num_recommendations sentiment"
)
"""Item fields (see :func:`folded`) that tell how liked or how frequent an item was in the end: over the test too."""
WORDS_TOO = _names("stars rank owners listeners")
"""Those of :data:`STATISTICS` that are statistics only where their values are numbers."""
CO_PURCHASES = _names(
    "also_buy also_bought also_view also_viewed bought_together buy_together buy_after_viewing bought_also viewed_also "
    "frequently_bought_together customers_also_bought customers_also_viewed similar_item similar_items "
    "similar_products related related_items co_purchase co_purchases copurchase"
)
"""Item fields that list the items met by the same people: a drawing of the held-out events."""
LLMEMB_LEFT_OUT = (
    STATISTICS
    | CO_PURCHASES
    | _names(
        "longitude latitude fit date image image_url image_urls image_url_high_res im_url images id asin parent_asin "
        "business_id item_id user_id"
    )
)
"""What LLMEmb keeps out of a prompt, and the statistics over the test period that its released code leaves in."""


def folded(name: str) -> str:
    """The name of a field with words apart and in lower case: ``salesRank`` and ``Sales-Rank`` are ``sales_rank``."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[\W_]+", "_", apart).strip("_").lower()


def clean_items(
    frame: pl.DataFrame,
    rules: TextRules = "clean",
    *,
    fields: str | Sequence[str] | None = None,
    max_text: int | None = None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """A table of items with one clean text per field, and facts about what was done, for the manifest.

    ``frame`` has the column ``key`` and fields of text or of lists of text: a ``List(String)`` is a list of values, a
    ``List(List(String))`` a list of category paths, of which every name is kept once, in the order it is first met.
    The result has ``key`` and one String column per field that stays; missing text is null. Rows and their order stay.

    fields     names to keep, in this order, as a list or comma-separated; "none" keeps none; by default all are kept
               (``llmemb``: all but those of its own list, which stay when they are named here)
    max_text   longest text in characters; a longer one is cut where no written character is torn apart

    as-is      text as it came; lists joined by ", "; empty text is missing
    clean      see :func:`clean_texts`; entries of lists are cleaned one by one, empty ones go, ", " joins them
    lc-rec     the rules of LC-Rec (arXiv 2311.09049): entities unescaped, tags, double quotes and line ends deleted,
               lists joined by a blank, exactly one full stop at the end; 2,000 characters or more become an empty text
               and a missing text becomes "."; ``brand`` loses a leading "by" line and nothing else, ``category`` and
               ``categories`` are joined by "," up to the first entry with markup
    llmemb     the rules of LLMEmb (arXiv 2409.19925): line ends become blanks, ";" becomes ".", lists are joined by
               ", " and an empty one becomes "none", values are cut to 100 characters (``max_text`` sets another bound)

    Facts: ``rules``, ``fields``; ``left_out`` fields; per field how many texts were ``changed``, ``cut`` and (lc-rec)
    ``emptied`` as too long; ``without_title``, the items that come without a title.

    Raises :class:`SettingsError` for a field that is not there and :class:`DataError` for a column that holds neither
    text nor lists of text.
    """
    kept, left_out = _chosen(frame, rules, fields)
    limit = LLMEMB_LIMIT if rules == "llmemb" and max_text is None else max_text
    done: dict[str, pl.Series] = {}
    facts: dict[str, Any] = {"rules": rules, "fields": kept}
    if left_out:
        facts["left_out"] = left_out
    if "title" in kept:
        facts["without_title"] = _without_text(frame["title"])
    counts: dict[str, dict[str, int]] = {"changed": {}, "cut": {}, "emptied": {}}
    for name in kept:
        column = _checked(frame[name])
        cleaned = _RULES[rules](column, name)
        text = cleaned.text
        counts["emptied"][name] = cleaned.emptied
        if limit is not None:
            text, counts["cut"][name] = cut_texts(text, limit)
        counts["changed"][name] = int(text.ne_missing(_joined(column, ", ")).sum())
        done[name] = text
    for what, by_field in counts.items():
        some = {name: n for name, n in by_field.items() if n}
        if some:
            facts[what] = some
    return pl.DataFrame({"key": frame["key"], **done}), facts


def clean_texts(values: pl.Series) -> pl.Series:
    """Text (String) without the traces of the web page it was on; null where nothing is left.

    HTML entities with their semicolon are unescaped, doubly escaped ones too, and so are those that lost their "&"
    to an earlier cleaning where nothing else can be meant (``8 1/2amp;quot;``; a lone ``amp;`` stays). Tags of HTML
    elements, comments, scripts and styles go (``<3``, ``a < b`` and ``<unknown>`` stay); a tag that breaks the line
    leaves a blank. Control characters and runs of blanks of any kind become one blank, the ends are stripped, Unicode
    is in normal form C. Nothing depends on the language. Cleaning a second time changes nothing, and text that needs
    no cleaning comes back as it was.
    """
    done = _clean_once(values)
    rows = done.ne_missing(values).arg_true()
    while len(rows):  # an entity may hide a tag, a tag may part an entity: again, until nothing changes
        before = done.gather(rows)
        after = _clean_once(before)
        changed = after.ne_missing(before)
        rows = rows.filter(changed)
        done = _put(done, rows, after.filter(changed))
    return _non_empty(done)


def cut_texts(values: pl.Series, most: int) -> tuple[pl.Series, int]:
    """Texts of at most ``most`` characters (code points), and how many were longer.

    No combining mark, emoji sequence or flag is torn apart (a near relation of the grapheme clusters of UAX 29) unless
    one alone is longer than the bound. A blank left at the cut goes.
    """
    rows = (values.str.len_chars() > most).arg_true()
    if not len(rows):
        return values, 0
    long = values.gather(rows)
    short = long.str.slice(0, most)
    torn = long.str.slice(most - 1, 2).str.contains(_JOINED).arg_true()
    if len(torn):
        short = _put(short, torn, pl.Series([_cut(text, most) for text in long.gather(torn)], dtype=pl.String))
    return _put(values, rows, short.str.strip_chars_end()), len(rows)


def _chosen(frame: pl.DataFrame, rules: str, fields: str | Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The fields that stay, and those that do not."""
    known = [name for name in frame.columns if name != "key"]
    if fields is None:
        kept = [name for name in known if rules != "llmemb" or folded(name) not in LLMEMB_LEFT_OUT]
    else:
        asked = [name.strip() for name in fields.split(",")] if isinstance(fields, str) else list(fields)
        kept = [] if asked == [NONE] and NONE not in known else asked
        for name in kept:
            if name not in known:
                raise SettingsError(f"--item-fields: the items have no field {name!r}{nearest(name, known)}")
            if kept.count(name) > 1:
                raise SettingsError(f"--item-fields names {name!r} twice")
    return kept, [name for name in known if name not in kept]


def _checked(column: pl.Series) -> pl.Series:
    inner: Any = column.dtype
    depth = 0
    while isinstance(inner, pl.List):
        inner, depth = inner.inner, depth + 1
    if inner == pl.Null and depth < 3:  # a column in which nothing is known
        kinds: list[Any] = [pl.String, pl.List(pl.String), pl.List(pl.List(pl.String))]
        column = column.cast(kinds[depth])
        inner = pl.String
    if inner != pl.String or depth > 2:
        raise DataError(f"item field {column.name!r} holds {column.dtype}; fields are text or lists of text")
    if depth == 2:
        # the paths of one item share their first names ("Beauty > Hair", "Beauty > Skin"): each is said once
        return column.list.eval(pl.element().explode(empty_as_null=False)).list.unique(maintain_order=True)
    return column


def _without_text(column: pl.Series) -> int:
    text = _joined(_checked(column), "").str.strip_chars()
    return int(((text == "") | text.is_null()).sum())


def _joined(column: pl.Series, separator: str) -> pl.Series:
    """Lists as text, empty entries left out; empty text is missing."""
    if column.dtype == pl.List(pl.String):
        column = column.list.eval(pl.element().filter(pl.element() != "")).list.join(separator)
    return _non_empty(column)


def _non_empty(values: pl.Series) -> pl.Series:
    if not (values == "").any():
        return values
    return values.to_frame().select(pl.when(pl.first() != "").then(pl.first()).alias(values.name)).to_series()


def _put(values: pl.Series, rows: pl.Series, new: pl.Series | str) -> pl.Series:
    """The values with others at some rows; ``Series.scatter`` alone would change the column that was given."""
    return values.clone().scatter(rows, new)


def _each(column: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """A change of texts, on the entries of lists too."""
    if column.dtype != pl.List(pl.String):
        return change(column)
    return column.list.eval(pl.element().map_batches(change, return_dtype=pl.String, is_elementwise=True))


@dataclass(frozen=True, slots=True)
class _Cleaned:
    text: pl.Series
    emptied: int = 0


def _as_is(column: pl.Series, name: str) -> _Cleaned:
    return _Cleaned(_joined(column, ", "))


def _clean(column: pl.Series, name: str) -> _Cleaned:
    return _Cleaned(_joined(_each(column, clean_texts), ", "))


def _lc_rec(column: pl.Series, name: str) -> _Cleaned:
    if folded(name) == "brand":
        text = _joined(column, " ").str.replace(BY_LINE, "").str.strip_chars()
        return _Cleaned(_non_empty(text))
    if folded(name) in _PATH_FIELDS:
        return _Cleaned(_joined(_each(_up_to_markup(column), lambda v: v.str.strip_chars()), ","))
    text = _each(column, _without_markup)
    if text.dtype == pl.List(pl.String):
        text = text.list.join(" ")
    # exactly one: the stops it may end with are one too; a missing text is a lone stop
    text = text.fill_null("").str.strip_chars().str.strip_chars_end(".") + "."
    over = text.str.len_chars() >= LC_REC_LIMIT
    return _Cleaned(_put(text, over.arg_true(), ""), int(over.sum()))


def _without_markup(values: pl.Series) -> pl.Series:
    text = _on_some(values, values.str.contains("&", literal=True), html.unescape)
    return text.str.replace_all(_ANY_TAG, "").str.replace_all(r'["\r\n]', "").str.strip_chars()


def _up_to_markup(column: pl.Series) -> pl.Series:
    if column.dtype != pl.List(pl.String):
        return column
    markup = column.list.eval(pl.element().str.contains(_ANY_TAG).cast(pl.Int8).cum_sum())
    if not (markup.list.max() > 0).any():
        return column
    # explode pairs every entry with the number of entries with markup up to it
    rows = pl.DataFrame({"row": range(len(column)), "entry": column, "markup": markup})
    kept = rows.explode("entry", "markup").filter(pl.col("markup") == 0)
    lists = kept.group_by("row", maintain_order=True).agg("entry")
    return rows.select("row").join(lists, on="row", how="left", maintain_order="left")["entry"].alias(column.name)


def _llmemb(column: pl.Series, name: str) -> _Cleaned:
    is_list = column.dtype == pl.List(pl.String)
    text = _joined(_each(column, lambda v: v.str.replace_all(r"\r\n|\r|\n", " ").str.replace_all(";", ".")), ", ")
    if is_list:
        nothing = (column.is_not_null() & text.is_null()).arg_true()
        text = _put(text, nothing, NONE)
    return _Cleaned(text)


_RULES: dict[str, Callable[[pl.Series, str], _Cleaned]] = {
    "as-is": _as_is,
    "clean": _clean,
    "lc-rec": _lc_rec,
    "llmemb": _llmemb,
}

# Elements of HTML. Left out are those that read as words between brackets in a title: <title>, <time>, <data>, ...
_INLINE = (
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|del|dfn|em|font|i|ins|kbd|mark|nobr|q|rp|rt|ruby|s|samp|small|span|strike|"
    "strong|sub|sup|tt|u|var|wbr"
)
_BLOCK = (
    "address|article|aside|blockquote|body|br|button|caption|center|col|colgroup|dd|div|dl|dt|embed|fieldset|"
    "figcaption|figure|footer|form|h[1-6]|head|header|hr|html|iframe|img|input|legend|li|meta|nav|noscript|object|ol|"
    "option|p|param|pre|script|section|select|style|table|tbody|td|textarea|tfoot|th|thead|tr|ul"
)
_ATTRIBUTES = r"""(?:\s+[A-Za-z_:][-A-Za-z0-9_:.]*\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*/?>"""  # "a<b and c>d"
_COMMENT = r"(?s)<!--.*?-->"
_SCRIPT = rf"(?is)<(?:script{_ATTRIBUTES}.*?</script|style{_ATTRIBUTES}.*?</style)\s*>"
_INLINE_TAG = rf"(?i)</?(?:{_INLINE}){_ATTRIBUTES}"
_BLOCK_TAG = rf"(?i)</?(?:{_BLOCK}){_ATTRIBUTES}"
_ANY_TAG = r"</?\w+[^>]*>"
_BLANKS = r"[\s\p{Cc}&&[^ ]][\s\p{Cc}]*| [\s\p{Cc}]+"  # not each single blank: there are many
_UNTIDY = r"\p{Cc}|[\s&&[^ ]]|  |^ | $"
_ENTITY_LIKE = r"&#?[0-9A-Za-z]+;|amp;"
# what cannot follow the character before the cut without belonging to it: marks, joiners, skin tones, tags, half-width
# voice marks, Hangul vowels and finals; a character after a joiner; the second half of a flag; \n after \r
_JOINED = (
    r"(?s)^.[\p{M}\u{200C}\u{200D}\u{1160}-\u{11FF}\u{D7B0}-\u{D7FB}\u{FF9E}\u{FF9F}\u{1F3FB}-\u{1F3FF}"
    r"\u{E0020}-\u{E007F}]|^\u{200D}|^[\u{1F1E6}-\u{1F1FF}]{2}|^\r\n"
)
_JOINS = re.compile(
    "(?s).(?:[\u200c\u200d\u1160-\u11ff\ud7b0-\ud7fb\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f])"
    "|\u200d.|\r\n"
)
_ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][0-9A-Za-z]{1,31});")
_BROKEN = re.compile(r"(?<!&)(?<![^\W\d_])amp;( ?quot|apos|lt|gt|nbsp|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")


def _clean_once(values: pl.Series) -> pl.Series:
    text = _normal(values)
    text = _on_some(text, text.str.contains(_ENTITY_LIKE), _unescape)
    tagged = text.str.contains("<", literal=True).arg_true()
    if len(tagged):
        bare = text.gather(tagged).str.replace_all(_COMMENT, " ").str.replace_all(_SCRIPT, " ")
        bare = bare.str.replace_all(_BLOCK_TAG, " ").str.replace_all(_INLINE_TAG, "")
        text = _put(text, tagged, bare)
    untidy = text.str.contains(_UNTIDY).arg_true()
    if len(untidy):
        text = _put(text, untidy, text.gather(untidy).str.replace_all(_BLANKS, " ").str.strip_chars(" "))
    return text


def _normal(values: pl.Series) -> pl.Series:
    """Normal form C; ASCII is in it already."""
    rows = (values.str.len_chars() < values.str.len_bytes()).arg_true()
    return _put(values, rows, values.gather(rows).str.normalize("NFC")) if len(rows) else values


def _on_some(values: pl.Series, mask: pl.Series, change: Callable[[str], str]) -> pl.Series:
    """A Python function on the different values among those chosen."""
    rows = mask.arg_true()
    if not len(rows):
        return values
    chosen = values.gather(rows)
    old = chosen.unique()
    new = pl.Series([change(text) for text in old], dtype=pl.String)
    return _put(values, rows, chosen.replace_strict(old, new, return_dtype=pl.String))


def _unescape(text: str) -> str:
    return _ENTITY.sub(_character, _BROKEN.sub(lambda m: f"&{m[1].strip()};", text))


def _character(match: re.Match[str]) -> str:
    # html.unescape would read "&notit;" as "¬it;": a name counts only when all of it is one
    return html.unescape(match[0]) if match[1][0] == "#" or f"{match[1]};" in html5 else match[0]


def _cut(text: str, most: int) -> str:
    end = most
    while end and _torn(text, end):
        end -= 1
    return text[:end] or text[:most]


def _torn(text: str, at: int) -> bool:
    """Whether a cut before the character at this place would part what is read as one."""
    from unicodedata import category

    if category(text[at])[0] == "M" or _JOINS.match(text, at - 1):
        return True
    if not _is_flag_half(text[at]):
        return False
    halves = 0
    while halves < at and _is_flag_half(text[at - 1 - halves]):
        halves += 1
    return halves % 2 == 1


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
