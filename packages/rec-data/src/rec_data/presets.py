"""Published preparations by name: which options of `prepare` repeat them, and what those cannot repeat.

``preset("lc-rec", k_core=10)`` gives :class:`PrepareSettings`; on the command line an option, or a settings file, wins
over the preset. Where a paper and its code disagree, the code is followed, since it made the published numbers. Ids are
ours in every case (the order of raw keys, see :func:`rec_data.ordering.ordered_keys`), in exports too, which count from
0 or 1 as their layout does: the numbers of a published file (by first appearance, ...) are not made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rec_core.errors import SettingsError, nearest
from rec_data.config import PrepareSettings

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Preset:
    """One published preparation.

    what         the raw data, and what becomes of it, in a line
    source       the paper, and where its preparation can be read
    options      what differs from the defaults of :class:`PrepareSettings`
    differences  what these options cannot repeat
    next         what follows on the prepared dataset, as commands
    """

    what: str
    source: str
    options: Mapping[str, Any]
    differences: tuple[str, ...] = ()
    next: tuple[str, ...] = ()


_LLMEMB = "LLMEmb, AAAI 2025, arXiv 2409.19925; data/data_process.py of the authors' code"
_LLMEMB_DIFFERENCES = (
    "The authors keep stars, review counts, ranks and dates in the item texts, which tell of the test period; these "
    "fields are not read here.",
    "The authors number items before they drop users with fewer than three events: a few numbers of theirs belong to "
    "no event any more, and may be drawn as negatives.",
)
_LLMEMB_NEXT = ("rec-data candidates DATASET LISTS --method uniform --negatives 100",)
_RELLA = "ReLLa, WWW 2024, arXiv 2308.11131; data_preprocess/ of the authors' code"
_RELLA_TIES = (
    "Events of one user in the same second are ordered by item there, by row of the file here: which of them are "
    "among the first five, or before a cut, may differ; the counts are equal."
)
_SELFREC = "SELFRec, the framework beside a survey of self-supervised recommendation (TKDE 2023, arXiv 2203.15876)"

PRESETS: dict[str, Preset] = {
    "llmemb-yelp": Preset(
        "Yelp 2013: users and items with 3 reviews, counted once; leave-one-out",
        _LLMEMB,
        {
            "format": "yelp",
            "source_version": "2013",
            "since": "2000-01-01",
            "until": "2019-12-31",
            "duplicates": "all",
            "k_core": 3,
            "k_core_rule": "one-pass",
            "min_events": 3,
            "text_rules": "llmemb",
            "max_text": 1_000_000,  # only the Amazon texts are cut
        },
        _LLMEMB_DIFFERENCES,
        _LLMEMB_NEXT,
    ),
    "llmemb-beauty": Preset(
        "Amazon Beauty 2014: users and items with 5 reviews, counted once; leave-one-out",
        _LLMEMB,
        {
            "format": "amazon",
            "source_version": "2014",
            "duplicates": "all",
            "k_core_rule": "one-pass",
            "min_events": 3,
            "text_rules": "llmemb",
        },
        _LLMEMB_DIFFERENCES,
        _LLMEMB_NEXT,
    ),
    "llmemb-fashion": Preset(
        "Amazon Fashion 2018: users with 3 and items with 2 reviews, iterated; leave-one-out",
        f"{_LLMEMB}; the bounds that give its counts (9,094 users, 4,722 items) are those the authors name for LLM-ESR",
        {
            "format": "amazon",
            "source_version": "2018",
            "duplicates": "all",
            "user_k_core": 3,
            "item_k_core": 2,
            "min_events": 3,
            "text_rules": "llmemb",
        },
        _LLMEMB_DIFFERENCES,
        _LLMEMB_NEXT,
    ),
    "lc-rec": Preset(
        "Amazon 2018: first review of each pair, described items, 5-core, iterated; leave-one-out",
        "LC-Rec, ICDE 2024, arXiv 2311.09049; data_process/amazon18_data_process.py of the authors' code",
        {
            "format": "amazon",
            "source_version": "2018",
            "described_items_only": True,
            "cold_items": False,
            "text_rules": "lc-rec",
        },
        (
            "There an item is described when the metadata have a line for it, here when that line has a title.",
            "The authors keep events in a Python set before they sort them by day, so the order of events of one day, "
            "and with it the last items of many users, came out of their run and cannot be made again.",
            "There an item has four texts: add --item-fields title,description,brand,categories to drop the others.",
        ),
        ("rec-data export DATASET OUT --format lc-rec",),
    ),
    "rella-ml-1m": Preset(
        "MovieLens-1M: every rating with five before it is a sample; all samples in order of time, 80 / 10 / 10",
        _RELLA,
        {"format": "movielens", "duplicates": "all", "k_core": 1, "split": "global-ratio"},
        (
            _RELLA_TIES,
            "The few-shot sets are drawn by another generator than Python's random.sample: other samples, as many.",
        ),
        ("rec-data samples DATASET SAMPLES --label-above 3 --few-shot 8192",),
    ),
    "rella-ml-25m": Preset(
        "MovieLens-25M: as rella-ml-1m, with 70,000 test samples",
        _RELLA,
        {"format": "movielens", "duplicates": "all", "k_core": 1, "split": "global-ratio"},
        (_RELLA_TIES,),
        ("rec-data samples DATASET SAMPLES --label-above 3 --few-shot 8192 --test-samples 70000",),
    ),
    "rella-book-crossing": Preset(
        "Book-Crossing: users with six ratings in a drawn order; one sample per user, its last; split by user",
        _RELLA,
        {
            "format": "book-crossing",
            "duplicates": "all",
            "k_core": 1,
            "min_events": 6,
            "described_items_only": True,
            "order": "random",
            "seed": 42,
        },
        (
            "The order of a user's ratings, and who is in the test, are drawn by another generator.",
            "Books whose ISBN holds anything but letters and digits stay.",
            "There is no validation part: the authors choose on the test (add --valid-share 0.09 for one of a tenth of "
            "the training users).",
            "The dataset itself is split leave-one-out; the split by user is that of the samples. Train on the samples "
            "alone: the last ratings of their training users are test events of the dataset.",
        ),
        ("rec-data samples DATASET SAMPLES --label-at-least 5 --targets last --parts users --few-shot 1024",),
    ),
    "llm4rec": Preset(
        "Amazon reviews: rated above 3, 5-core, iterated; a drawn tenth of each user for validation and for the test",
        "LLM4REC, ACM TIST 2025, arXiv 2402.09617; the preparation of its authors' code",
        {"format": "amazon", "duplicates": "all", "min_rating": 4.0, "split": "ratio", "seed": 98765},
        (
            "Which events of a user are drawn differs (another generator); the numbers of each part do not.",
            "A pair that occurs twice may be trained on and tested, as there; --duplicates first keeps it from that.",
        ),
    ),
    "llm4idrec": Preset(
        "interactions without an order: a drawn fifth of each user for the test, a tenth for validation",
        "LLM4IDRec, ACM TOIS, arXiv 2411.02041, on data as SELFRec's: drawn per user, about 80 / 20",
        {"k_core": 1, "split": "ratio", "test_share": 0.2},
        (
            "The released files have no validation part (settings were chosen on the test); here there is one.",
            "The released files themselves: --preset selfrec.",
        ),
    ),
    "selfrec": Preset(
        "train.txt and test.txt as SELFRec comes with them (Yelp2018, Amazon-Kindle, Douban-Book, ...)",
        _SELFREC,
        {"format": "selfrec", "k_core": 1, "split": "given"},
        (
            "There is no validation part: SELFRec chooses the epoch on the test.",
            "SELFRec leaves out test pairs whose item is not in train.txt; here they stay and are counted as items "
            "without training.",
            "Its sequences may meet an item twice: add --duplicates all for them; a pair of its graphs counts once.",
        ),
    ),
    "sasrec": Preset(
        "implicit feedback: users and items with 5 events, counted once; leave-one-out",
        "SASRec, ICDM 2018, arXiv 1808.09781; data/DataProcessing.py of the authors' code",
        {"duplicates": "all", "k_core_rule": "one-pass"},
        ("A user whose rare items went may have fewer than five events; with fewer than three it is train only, too.",),
        ("rec-data candidates DATASET LISTS --method uniform --negatives 100",),
    ),
    "s3rec": Preset(
        "implicit feedback: 5-core, iterated; leave-one-out",
        "S3-Rec, CIKM 2020, arXiv 2008.07873; data/data_process.py of the authors' code",
        {"duplicates": "all"},
        (
            "Its Yelp has the year 2019 alone: add --since 2019-01-01 --until 2019-12-30.",
            "Its Last.fm keeps the first of repeated pairs: add --duplicates first.",
        ),
        ("rec-data candidates DATASET LISTS --method popularity --popularity-from all --negatives 99",),
    ),
}


def named(name: str) -> Preset:
    """The preset of that name; :class:`SettingsError` names the nearest one."""
    if name not in PRESETS:
        raise SettingsError(f"no preset is called {name!r}{nearest(name, PRESETS)} (rec-data presets lists them)")
    return PRESETS[name]


def preset(name: str, **changes: Any) -> PrepareSettings:
    """The settings of a published preparation, with ``changes`` to its options."""
    return PrepareSettings(**{"preset": name, **options_beside(name, changes), **changes})


def options_beside(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a preset that still hold beside others; None in ``changes`` is as good as not there.

    Another ``format`` than the preset's own takes its ``source_version`` away, an edition of that format, and a
    ``k_core`` takes its ``user_k_core`` and ``item_k_core`` away, which would else win over it.
    """
    options = dict(named(name).options)
    if changes.get("format") not in (None, options.get("format")):
        options.pop("source_version", None)
    if changes.get("k_core") is not None:
        options = {option: value for option, value in options.items() if not option.endswith("_k_core")}
    return options


def print_presets(console: Console) -> None:
    """One line per preset."""
    from rich.table import Table

    table = Table(title="presets of rec-data prepare", title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("what")
    for name, one in PRESETS.items():
        table.add_row(name, one.what)
    console.print(table)
    console.print("rec-data presets NAME shows the options of one, and what they cannot repeat.", highlight=False)


def print_preset(one: Preset, console: Console) -> None:
    """Everything a preset says."""
    from rich.markup import escape
    from rich.padding import Padding

    def say(text: str, left: int = 0) -> None:
        console.print(Padding(escape(text), (0, 0, 0, left)), highlight=False)

    say(one.what)
    say(f"Source: {one.source}.")
    say("Options:")
    for option, value in one.options.items():
        say(_as_words(option, value), 2)
    if one.differences:
        say("Not repeated:")
        for text in one.differences:
            say(text, 2)
    say("Ids follow the order of raw keys, in exports too; the numbers of a published file are not made again.")
    if one.next:
        say("Next:")
        for command in one.next:
            say(command, 2)


def _as_words(option: str, value: Any) -> str:
    name = option.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {value}"
