"""The leak audit: each leak is planted and found, and nothing else is; every count equals that of a slow twin."""

import gzip
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rec_data.audit as audit_module
from rec_core.dataset import write_dataset
from rec_core.errors import DataError, SettingsError
from rec_core.types import Dataset, IdMap, Interactions, ItemCatalog, Reviews, Split, UserCatalog
from rec_data import leaky_texts
from rec_data.audit import CHECKS, Audit, AuditSettings, audit
from rec_data.splits import global_time, leave_one_out

N_USERS, N_ITEMS, LENGTH = 40, 60, 8
TITLES = [f"The {a} {b} Story" for a in ("Amber", "Blue", "Crimson") for b in map(chr, range(0x41, 0x55))]
TOWNS = ("Springfield", "Shelbyville", "Ogdenville")


def world(protocol=leave_one_out) -> Dataset:
    """Everyone meets eight items in turn, each at a time of its own; nothing leaks."""
    users = np.repeat(np.arange(N_USERS), LENGTH)
    items = (7 * users + 11 * np.tile(np.arange(LENGTH), N_USERS)) % N_ITEMS
    times = 1_000_000 + 1_000 * np.tile(np.arange(LENGTH), N_USERS) + users  # users in step, so that nobody comes late
    rng = np.random.default_rng(3)
    events = Interactions.sorted(users, items, timestamps=times, ratings=rng.integers(1, 6, len(users)))
    train = np.flatnonzero(protocol(events)[0].part == 0)
    return Dataset(
        "world",
        UserCatalog(IdMap(tuple(f"u{i}" for i in range(N_USERS))), {"town": [TOWNS[i % 3] for i in range(N_USERS)]}),
        ItemCatalog(
            IdMap(tuple(f"B00{i:04d}" for i in range(N_ITEMS))),
            {
                "title": TITLES,
                "price": [f"{rng.uniform(1, 99):.2f}" for _ in range(N_ITEMS)],
                "brand": ["Acme"] * N_ITEMS,
            },
        ),
        protocol(events)[0],
        Reviews(
            events.users[train],
            events.items[train],
            tuple(f"I liked {TITLES[i]} so much." for i in events.items[train]),
            timestamps=events.timestamps[train],
        ),
    )


def in_time(events):
    return global_time(events, 0.125, 0.125)


def with_events(data: Dataset, part=None, protocol=None, **columns) -> Dataset:
    """The same world with other columns; events are sorted again, parts go with them."""
    old = data.split.interactions
    new = {
        name: np.array(columns.get(name, getattr(old, name))) for name in ("users", "items", "timestamps", "ratings")
    }
    part = np.array(data.split.part if part is None else part)
    order = np.lexsort((new["timestamps"], new["users"]))
    events = Interactions(
        n_users=old.n_users,
        n_items=old.n_items,
        generated=columns.get("generated"),
        **{name: column[order] for name, column in new.items()},
    )
    return replace(data, split=Split(events, part[order], protocol or data.split.protocol))


def with_items(data: Dataset, **fields) -> Dataset:
    return replace(data, items=ItemCatalog(data.items.ids, {**data.items.fields, **fields}, data.items.n_interacted))


def with_user_field(data: Dataset, name: str, values) -> Dataset:
    return replace(data, users=UserCatalog(data.users.ids, {**data.users.fields, name: values}))


def with_review(data: Dataset, user: int, item: int, text: str, time: int) -> Dataset:
    old = data.reviews
    return replace(
        data,
        reviews=Reviews(
            np.append(old.users, np.int64(user)),
            np.append(old.items, np.int32(item)),
            (*old.texts, text),
            np.append(old.timestamps, np.int64(time)),
        ),
    )


def changed(data: Dataset, base: Dataset | None = None, **options) -> dict[str, str]:
    """Verdicts that differ from those of the world without a leak."""
    before, after = audit(base or world()), audit(data, AuditSettings(**options))
    return {f.check: f.verdict for f in after.findings if f.verdict != before[f.check].verdict}


def target(data: Dataset, user: int, part: int = 2) -> int:
    """Row of the held-out event of a user."""
    return int(np.flatnonzero((data.split.interactions.users == user) & (data.split.part == part))[0])


def test_the_world_without_a_leak_has_none():
    found = audit(world())
    assert {finding.verdict for finding in found.findings} == {"ok"}
    assert found.leaks == ()
    assert [finding.check for finding in found.findings] == list(CHECKS)
    assert all(finding.verdict == "ok" for finding in audit(world(in_time)).findings)


def test_training_events_after_the_target_of_their_user_are_found_with_how_far():
    base = world()
    part = base.split.part.copy()
    row = target(base, 5)
    part[row], part[row - 4] = 0, 2  # the test event comes before two training events, the valid event, and itself
    data = replace(with_events(base, part), reviews=None)
    # others go on after the early test event, as in every split by user
    assert changed(data) == {"future_in_history": "leak", "train_after_test": "note"}
    finding = audit(data)["future_in_history"]
    # train: 3 and 4 events after the target are 2 + the old test event; valid: 1
    assert (finding.count, finding.details["train"], finding.details["valid"]) == (4, 3, 1)
    assert finding.details["seconds_most"] == 4_000
    assert finding.details["seconds_median"] == np.median([1_000, 2_000, 3_000, 4_000])
    assert "user 'u5'" in finding.examples[0]


def test_a_random_split_is_told_to_be_one():
    base = world()
    part = np.zeros(len(base.split.part), np.uint8)
    part[2::LENGTH], part[4::LENGTH] = 1, 2
    finding = audit(with_events(base, part, protocol="ratio"))["future_in_history"]
    assert finding.verdict == "leak"
    assert "--ratio-order time" in finding.text


def test_training_events_after_the_cut_of_a_global_split_are_found():
    base = world(in_time)
    part = base.split.part.copy()
    row = target(base, 9)
    part[row] = 0  # the only test event of this user: its history stays older than its targets
    part[row - 1] = 0
    data = with_events(base, part)
    assert changed(data, base) == {"train_after_test": "leak"}
    finding = audit(data)["train_after_test"]
    oldest = {code: base.split.interactions.timestamps[part == code].min() for code in (1, 2)}
    late = base.split.interactions.timestamps[part == 0]
    assert finding.count == (late > oldest[1]).sum() == 2
    assert finding.details["seconds_most"] == late.max() - oldest[1]


def test_a_pair_in_two_parts_is_found_and_the_target_counted_as_seen():
    base = world()
    items = base.split.interactions.items.copy()
    row = target(base, 3)
    items[row] = items[row - 3]
    data = with_events(base, items=items)
    assert changed(data) == {"pairs_across_parts": "leak", "seen_targets": "note"}
    found = audit(data)
    assert found["pairs_across_parts"].count == 1
    assert found["pairs_across_parts"].details == {"train_and_valid": 0, "train_and_test": 1, "valid_and_test": 0}
    assert found["seen_targets"].details == {"valid": 0, "test": 1}
    assert "u3" in found["pairs_across_parts"].examples[0]


def test_an_exact_copy_is_a_leak_across_parts_and_a_note_within_one():
    base = world()
    events = base.split.interactions
    row = target(base, 3)
    across = {"repeated_events": "leak", "pairs_across_parts": "leak", "seen_targets": "note"}
    for copied, part, verdicts in (
        (row, 1, across | {"tie_decided_targets": "note"}),
        (row - 3, 0, {"repeated_events": "note"}),
    ):
        columns = {n: np.append(getattr(events, n), getattr(events, n)[copied]) for n in ("users", "items", "ratings")}
        data = with_events(
            base,
            np.append(base.split.part, np.uint8(part)),
            timestamps=np.append(events.timestamps, events.timestamps[copied]),
            **columns,
        )
        assert changed(data) == verdicts | {"tied_timestamps": "note"}
        assert audit(data)["repeated_events"].count == 1


def test_generated_events_may_be_in_train_and_nowhere_else():
    base = world()
    generated = np.zeros(len(base.split.part), np.bool_)
    generated[target(base, 0) - 5] = True
    assert changed(with_events(base, generated=generated)) == {}
    generated[target(base, 1, part=1)] = True
    data = with_events(base, generated=generated)
    assert changed(data) == {"generated_in_held_out": "leak"}
    assert audit(data)["generated_in_held_out"].details == {"generated": 2}


@pytest.mark.parametrize(("part", "name"), [(1, "valid"), (2, "test")])
def test_the_review_of_a_held_out_event_is_found(part, name):
    base = world()
    row = target(base, 7, part)
    events = base.split.interactions
    item = int(events.items[row])
    data = with_review(base, 7, item, f"{TITLES[item]}!", int(events.timestamps[row]))
    assert changed(data) == {"held_out_reviews": "leak"}
    details = {"valid": 0, "test": 0, "naming_their_item": 1} | {name: 1}
    assert audit(data)["held_out_reviews"].details == details


def test_a_review_of_a_repeated_pair_belongs_to_the_event_of_its_time():
    base = replace(world(), reviews=None)
    row, events = target(base, 7), base.split.interactions
    items = events.items.copy()
    items[row] = items[row - 5]  # user 7 meets an item of the training part again, as the test event
    again = with_events(base, items=items)
    reviews = {
        row: Reviews(np.array([7]), items[row : row + 1], ("so so",), timestamps=events.timestamps[row : row + 1])
        for row in (row, row - 5)
    }
    assert audit(replace(again, reviews=reviews[row - 5]))["held_out_reviews"].verdict == "ok"
    found = audit(replace(again, reviews=reviews[row]))["held_out_reviews"]
    assert (found.verdict, found.count, found.details["test"]) == ("leak", 1, 1)


def test_a_review_that_names_the_target_is_found_unless_it_is_older():
    base = world()
    row = target(base, 7)
    events = base.split.interactions
    title, time = TITLES[events.items[row]], int(events.timestamps[row])
    for later in (time, time + 5):
        named = with_review(base, 7, int(events.items[row - 4]), f"As good as {title}.", later)
        assert changed(named) == {"titles_in_reviews": "leak"}
    earlier = with_review(base, 7, int(events.items[row - 4]), f"As good as {title}.", time - 5)
    assert changed(earlier) == {}
    assert audit(earlier)["titles_in_reviews"].details["in_earlier_reviews"] == 1


def test_a_title_in_a_field_of_its_user_is_found_and_told_from_chance():
    base = world()
    items = base.split.interactions.items
    taste = [None] * N_USERS
    taste[4] = f"likes {TITLES[items[target(base, 4)]]}, among others"
    data = with_user_field(base, "taste", taste)
    assert changed(data) == {"titles_in_user_fields": "leak"}
    assert audit(data)["titles_in_user_fields"].details["taste"] == 1
    everything = with_user_field(base, "taste", [" / ".join(TITLES)] * N_USERS)  # says nothing about anyone
    assert changed(everything) == {"titles_in_user_fields": "note"}
    short = with_items(base, title=[f"T{i}" for i in range(N_ITEMS)])
    assert changed(with_user_field(short, "taste", [" ".join(f"T{i}" for i in range(N_ITEMS))] * N_USERS)) == {}


@pytest.mark.parametrize(
    ("text", "title", "there"),
    [
        ("likes The Blue Story, yes", "The Blue Story", True),
        ("The Blue Story", "The Blue Story", True),
        ("The Blue Storyteller", "The Blue Story", False),
        ("The Blue Storyteller and The Blue Story 2", "The Blue Story", True),
        ("1984 and 198456", "198456", True),
        ("21984", "1984", False),
        ("我喜欢三体小说", "三体小说", True),  # no blanks between words there
        ("ฉันชอบเรื่องนี้มาก", "เรื่องนี้", True),
    ],
)
def test_a_title_stands_alone_or_is_part_of_a_longer_word(text, title, there):
    assert leaky_texts.stands_alone(text, title) is there


def test_titles_in_scripts_without_blanks_are_found():
    base = with_items(world(), title=[f"三体小说{chr(0x4E00 + i)}" for i in range(N_ITEMS)])
    item = int(base.split.interactions.items[target(base, 4)])
    taste = [None] * N_USERS
    taste[4] = f"我喜欢{base.items.title(item)}和别的"
    assert changed(with_user_field(base, "taste", taste)) == {"titles_in_user_fields": "leak"}


def counts_of(data: Dataset, train_only: bool = False) -> np.ndarray:
    events = data.split.interactions
    return np.bincount(events.items[data.split.part == 0] if train_only else events.items, minlength=N_ITEMS)


def uneven() -> Dataset:
    """The world with popular and rare items, each pair once."""
    base = world()
    items = base.split.interactions.items.copy()
    for user in range(0, N_USERS, 2):
        items[user * LENGTH : (user + 1) * LENGTH] = (
            np.arange(LENGTH) ** 2 // 2 + user // 8 * np.arange(LENGTH)
        ) % N_ITEMS
    data = with_events(base, items=items)
    return data if len(np.unique(counts_of(data))) > 2 else pytest.fail("counts are too even to tell")


def test_statistics_over_all_parts_are_found_by_name_and_by_value():
    base = uneven()
    means = [
        f"{base.split.interactions.ratings[base.split.interactions.items == i].mean():.2f}" if n else None
        for i, n in enumerate(counts_of(base))
    ]
    for field, values in {
        "rating_number": [str(i * 37 % 101) for i in range(N_ITEMS)],
        "salesRank": [f"{i:,} in Beauty" for i in range(N_ITEMS)],
        "Avg. Rating": ["4.5"] * N_ITEMS,
        "whatever": [str(n) for n in counts_of(base)],
        "something": means,
        "sentiment": ["Mostly Positive"] * N_ITEMS,
        "details": ['{"Color": "red", "Best Sellers Rank": {"Beauty": 12}}'] + [None] * (N_ITEMS - 1),
    }.items():
        data = with_items(base, **{field: values})
        assert changed(data, base) == {"item_statistics": "leak"}, field
        assert field in audit(data)["item_statistics"].text
        assert "--item-fields title,price,brand" in audit(data)["item_statistics"].text


def test_statistics_of_training_events_and_names_without_numbers_are_no_leak():
    base = uneven()
    in_train = [str(n) for n in counts_of(base, train_only=True)]
    assert changed(with_items(base, popularity=in_train), base) == {}
    assert changed(with_items(base, stars=["Bette Davis"] * N_ITEMS, rank=["captain"] * N_ITEMS), base) == {}
    assert changed(with_items(base, rating_number=[None] * N_ITEMS), base) == {}
    assert changed(with_items(base, details=['{"Color": "red"}'] * N_ITEMS), base) == {}
    about = [f"{n * 1000 + i}" for i, n in enumerate(counts_of(base))]  # grows with popularity, whatever it is
    assert changed(with_items(base, visits=about), base) == {"item_statistics": "note"}


def test_lists_of_co_purchases_are_found_by_name_and_by_what_they_give_away():
    base = world()
    keys, events = base.items.ids.keys, base.split.interactions
    assert changed(with_items(base, also_buy=["a book"] + [None] * (N_ITEMS - 1))) == {"co_purchases": "leak"}
    related = ['{"also_bought": ["B1"]}'] + [None] * (N_ITEMS - 1)
    assert changed(with_items(base, extra=related)) == {"co_purchases": "leak"}
    telling = [None] * N_ITEMS
    for user in range(0, N_USERS, 3):
        row = target(base, user)
        telling[events.items[row - 1]] = f"['{keys[events.items[row]]}', 'B99']"
    data = with_items(base, see=telling)
    assert changed(data) == {"co_purchases": "leak"}
    see = audit(data)["co_purchases"].details["see"]
    assert see["held_out_linked_to_history"] > see["by_chance"]
    own = [f"key {key}" for key in keys]
    assert changed(with_items(base, note=own)) == {}
    one = [f"like {keys[-1]}"] + [None] * (N_ITEMS - 1)  # a word about another item gives no target away
    assert set(changed(with_items(base, note=one)).values()) <= {"note"}


def test_ordinary_numbers_and_words_are_not_taken_for_keys():
    base = world()
    plain = replace(base, items=ItemCatalog(IdMap(tuple(str(1_900 + i) for i in range(N_ITEMS))), base.items.fields))
    years = [str(1_900 + (i + 1) % N_ITEMS) for i in range(N_ITEMS)]
    assert changed(with_items(plain, year=years), plain) == {}


def test_ties_and_cold_targets_are_notes_until_a_bound_makes_them_leaks():
    base = world()
    times = base.split.interactions.timestamps.copy()
    row = target(base, 2)
    times[row - 1] = times[row]
    data = with_events(base, timestamps=times)
    assert changed(data) == {"tied_timestamps": "note", "tie_decided_targets": "note"}
    details = audit(data)["tie_decided_targets"].details
    assert details == {"valid": 1, "valid_of": N_USERS, "test": 1, "test_of": N_USERS}
    assert changed(data, max_tied_share=0.5 / (N_USERS * (LENGTH - 1)))["tied_timestamps"] == "leak"
    assert changed(data, max_tied_share=1 / (N_USERS * (LENGTH - 1)))["tied_timestamps"] == "note"
    assert changed(data, max_tie_decided_share=0.02)["tie_decided_targets"] == "leak"  # 1 / 40 is more
    assert changed(data, max_tie_decided_share=0.025)["tie_decided_targets"] == "note"
    times[row - 2] = times[row - 1] = times[row] - 1  # valid and train alone
    details = audit(with_events(base, timestamps=times))["tie_decided_targets"].details
    assert (details["valid"], details["test"]) == (1, 0)


def test_cold_targets_are_counted():
    base = world()
    items = base.split.interactions.items.copy()
    part = base.split.part
    lost = int(items[target(base, 0)])
    users_of = np.flatnonzero((items == lost) & (part == 0))
    for row in users_of:  # the item leaves train, another takes its place that the user has not met
        mine = items[base.split.interactions.users == base.split.interactions.users[row]]
        items[row] = next(i for i in range(N_ITEMS) if i not in mine and i != lost)
    data = with_events(base, items=items)
    finding = audit(data)["cold_targets"]
    held_out = items[part > 0]
    assert (finding.verdict, finding.count) == ("note", int((held_out == lost).sum()))
    assert audit(data, AuditSettings(max_cold_share=0))["cold_targets"].verdict == "leak"


def test_users_without_history_and_empty_parts_are_notes():
    base = world(in_time)
    part = base.split.part.copy()
    events = base.split.interactions
    keep = np.ones(len(part), np.bool_)
    keep[(events.users == 6) & (part < 2)] = False  # a user who comes in the test period
    data = replace(base, split=Split(events.where(keep), part[keep], "global_time"), reviews=None)
    assert changed(data, base) == {"users_without_history": "note"}
    assert audit(data)["users_without_history"].details == {"valid": 0, "test": 1, "users_without_target": 0}
    part[part == 1] = 0
    empty = with_events(base, part, protocol="given")
    assert audit(empty)["empty_parts"].count == 1
    assert "no valid events" in audit(empty)["empty_parts"].text


def test_checks_of_time_are_left_out_without_times():
    base = world()
    events = replace(base.split.interactions, timestamps=None)
    found = audit(replace(base, split=Split(events, base.split.part, "leave_one_out"), reviews=None))
    assert found["timestamps"].verdict == "note"
    assert set(CHECKS) - {f.check for f in found.findings} == set(found["timestamps"].details["left_out"])
    assert found.leaks == ()


def test_an_accepted_leak_is_a_note():
    base = world()
    data = with_items(base, also_buy=["x"] * N_ITEMS)
    assert changed(data, accept=("co_purchases",)) == {"co_purchases": "note"}
    with pytest.raises(SettingsError, match=r"no check 'co_purchase'; did you mean 'co_purchases'\?"):
        AuditSettings(accept=("co_purchase",))
    with pytest.raises(SettingsError, match="--max-cold-share is a share from 0 to 1; got 2"):
        AuditSettings(max_cold_share=2)


def test_a_dataset_without_events_is_refused():
    none = Interactions.sorted([], [], n_users=1, n_items=1)
    data = Dataset(
        "void", UserCatalog(IdMap(("u",))), ItemCatalog(IdMap(("i",))), Split(none, np.empty(0, np.uint8), "given")
    )
    with pytest.raises(DataError, match="void holds no events"):
        audit(data)


# ---- the slow twin: plain loops over plain lists


def slow_counts(users, items, times, parts) -> dict[str, object]:
    rows = list(zip(users, items, times, parts, strict=True))
    everyone = sorted(set(users))
    late = {0: [], 1: []}
    for user, _, time, part in rows:
        limits = [t for u, _, t, p in rows if u == user and p > part]
        if part < 2 and limits and time > min(limits):
            late[part].append(time - min(limits))
    pairs = sorted({(u, i) for u, i, _, _ in rows})
    parts_of = {pair: {p for u, i, _, p in rows if (u, i) == pair} for pair in pairs}
    seen = [0, 0]
    for u, i, _, p in rows:
        if p:
            seen[p - 1] += any(q < p for q in parts_of[u, i])
    copies = across = 0
    for exact in sorted({(u, i, t) for u, i, t, _ in rows}):
        of = sorted(p for u, i, t, p in rows if (u, i, t) == exact)
        copies += len(of) - 1
        across += sum(a != b for a, b in pairwise(of))
    tie = [0, 0]
    for code in (1, 2):
        for user in everyone:
            tie[code - 1] += any(
                p == code and any(v == user and s == t and q != code for v, _, s, q in rows)
                for u, _, t, p in rows
                if u == user
            )
    mine = {user: [(t, p) for u, _, t, p in rows if u == user] for user in everyone}
    tied = sum(a[0] == b[0] for own in mine.values() for a, b in pairwise(own))
    has = {user: {p for _, p in own} for user, own in mine.items()}
    in_train = {i for _, i, _, p in rows if p == 0}
    tests = [t for _, _, t, p in rows if p == 2]
    return {
        "future": (len(late[0]), len(late[1]), sorted(late[0] + late[1])),
        "after_test": sum(p == 0 and t > min(tests) for _, _, t, p in rows) if tests else 0,
        "across": sum(len(p) > 1 for p in parts_of.values()),
        "by_pair": [sum(two <= p for p in parts_of.values()) for two in ({0, 1}, {0, 2}, {1, 2})],
        "seen": seen,
        "copies": (copies, across),
        "tie": tie,
        "tied": tied,
        "cold": [sum(p == code and i not in in_train for _, i, _, p in rows) for code in (1, 2)],
        "no_history": [sum(1 in h and 0 not in h for h in has.values()), sum(h == {2} for h in has.values())],
    }


def fast_counts(found: Audit) -> dict[str, object]:
    future, copies = found["future_in_history"].details, found["repeated_events"]
    return {
        "future": (future["train"], future["valid"]),
        "after_test": found["train_after_test"].count,
        "across": found["pairs_across_parts"].count,
        "by_pair": list(found["pairs_across_parts"].details.values()),
        "seen": list(found["seen_targets"].details.values()),
        "copies": (copies.count, copies.details["across_parts"]),
        "tie": [found["tie_decided_targets"].details[part] for part in ("valid", "test")],
        "tied": found["tied_timestamps"].count,
        "cold": [found["cold_targets"].details[part] for part in ("valid", "test")],
        "no_history": [found["users_without_history"].details[part] for part in ("valid", "test")],
    }


EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(-2, 4), st.integers(0, 2)), min_size=1, max_size=24
)


@settings(max_examples=100, deadline=None)
@given(EVENTS, st.integers(1, 9))
def test_every_count_of_events_equals_that_of_the_slow_twin(rows, block):
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    users, items, times, parts = (list(column) for column in zip(*rows, strict=True))
    events = Interactions.sorted(users, items, timestamps=times, n_users=5, n_items=5)
    data = Dataset(
        "random",
        UserCatalog(IdMap(tuple("abcde"))),
        ItemCatalog(IdMap(tuple("vwxyz"))),
        Split(events, np.array(parts, np.uint8), "given"),
    )
    whole = audit(data)
    slow = slow_counts(users, items, times, parts)
    late = slow["future"][2]
    slow["future"] = slow["future"][:2]
    assert fast_counts(whole) == slow
    if late:
        details = whole["future_in_history"].details
        assert (details["seconds_median"], details["seconds_most"]) == (np.median(late), late[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_module, "_BLOCK", block)  # however the users are cut into blocks
        assert audit(data).as_dict() == whole.as_dict()


def slow_links(values, keys, users, items, parts) -> int:
    """Held-out events with a visible item of the same user that names theirs, or is named by it."""
    names = {(a, keys.index(w)) for a, text in enumerate(values) if text for w in text.split() if w in keys}
    names = {(a, b) for a, b in names if a != b}
    found = 0
    for u, i, p in zip(users, items, parts, strict=True):
        visible = [j for v, j, q in zip(users, items, parts, strict=True) if v == u and q < p]
        found += p > 0 and any((i, j) in names or (j, i) in names for j in visible)
    return found


@settings(max_examples=100, deadline=None)
@given(EVENTS, st.lists(st.lists(st.sampled_from(range(5)), max_size=2), min_size=5, max_size=5))
def test_links_between_history_and_target_equal_those_of_the_slow_twin(rows, named):
    keys = [f"KEY00{i}" for i in range(5)]
    values = [" ".join(keys[i] for i in some) or None for some in named]
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    users, items, times, parts = (list(column) for column in zip(*rows, strict=True))
    events = Interactions.sorted(users, items, timestamps=times, n_users=4, n_items=5)
    links = leaky_texts.key_links(values, keys)
    found = leaky_texts.linked_targets(links, events, np.array(parts, np.uint8))
    assert found.count == slow_links(values, keys, users, items, parts)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 2), st.integers(0, 2)), min_size=1),
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 2), st.text("AB ", max_size=9)), max_size=8
    ),
)
@example([(0, 0, 0, 1), (0, 0, 1, 2)], [(0, 0, 1, "")])  # a pair in valid and test is counted once
def test_what_reviews_give_away_equals_what_the_slow_twin_finds(rows, written):
    titles = ["AAAAAAAA", "BBBBBBBB", "A B A B A", "short", None]
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    users, items, times, parts = (list(column) for column in zip(*rows, strict=True))
    events = Interactions.sorted(users, items, timestamps=times, n_users=4, n_items=5)
    texts = [f"{text} {titles[len(text) % 5]}" for *_, text in written]
    who, what, when = ([row[i] for row in written] for i in range(3))
    reviews = Reviews(np.array(who, np.int64), np.array(what, np.int32), tuple(texts), np.array(when, np.int64))
    part = np.array(parts, np.uint8)
    naming, earlier = set(), 0
    for row, (user, item, time, p) in enumerate(zip(users, items, times, parts, strict=True)):
        for author, about, wrote, text in zip(who, what, when, texts, strict=True):
            title = titles[item]
            if not p or author != user or about == item or title in ("short", None):
                continue
            if leaky_texts.stands_alone(text, title):
                earlier += wrote < time
                naming |= {row} if wrote >= time else set()
    found = leaky_texts.mentions_in_reviews(reviews, titles, events, part)
    assert (set(found.rows.tolist()), found.earlier) == (naming, earlier)
    for timed in (True, False):  # without times a review is about all events of its user and item
        written_about = [
            {q for u, i, t, q in rows if (u, i) == (who[r], what[r]) and (not timed or t == when[r])}
            or {q for u, i, _, q in rows if (u, i) == (who[r], what[r])}
            for r in range(len(texts))
        ]
        test = [r for r, parts_of in enumerate(written_about) if 2 in parts_of and 0 not in parts_of]
        valid = [r for r, parts_of in enumerate(written_about) if parts_of == {1}]
        about_held_out = leaky_texts.held_out_reviews(
            reviews if timed else replace(reviews, timestamps=None), events, part
        )
        assert (about_held_out["test"].tolist(), about_held_out["valid"].tolist()) == (test, valid)


# ---- the command


@pytest.fixture
def prepared(tmp_path):
    def write(data: Dataset):
        return write_dataset(tmp_path / f"{len(list(tmp_path.iterdir()))}", data).path

    return write


def test_the_exit_code_says_whether_there_are_leaks(rec_data, prepared):
    clean = rec_data("audit", prepared(world()))
    assert clean.code == 0, clean.err
    assert "no leak, 0 notes, 17 checks" in clean.out
    leaky = prepared(with_items(world(), also_buy=["[bold]x[/bold]"] * N_ITEMS))
    said = rec_data("audit", leaky)
    assert said.code == 1
    assert said.out.splitlines()[1].startswith("leak  co_purchases: 1 of 4")
    assert "1 leak (co_purchases), 0 notes" in said.out
    assert rec_data("audit", leaky, "--accept", "co_purchases").code == 0
    as_json = rec_data("audit", leaky, "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["leaks"] == ["co_purchases"]
    assert json.loads(as_json.out)["findings"]["co_purchases"]["verdict"] == "leak"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--accept", "nothing"], "there is no check 'nothing'"),
        (["--max-tied-share", "1.5"], "is a share from 0 to 1; got 1.5"),
        (["--examples", "-1"], "--examples is at least 0"),
    ],
)
def test_a_wrong_option_is_no_leak(rec_data, prepared, words, message):
    said = rec_data("audit", prepared(world()), *words)
    assert (said.code, said.out) == (2, "")
    assert message in said.err


def test_what_is_no_dataset_is_no_leak(rec_data, tmp_path):
    assert rec_data("audit", tmp_path / "nowhere").code == 2
    assert rec_data("audit", tmp_path).code == 2


def test_half_of_the_targets_of_movielens_1m_hang_on_the_order_of_the_file(real_data):
    with gzip.open(real_data / "ml-1m" / "ratings.dat.gz", "rt") as file:
        rows = np.fromstring(file.read().replace("::", " "), np.int64, sep=" ").reshape(-1, 4)
    events = Interactions.sorted(rows[:, 0] - 1, rows[:, 1] - 1, timestamps=rows[:, 3], n_users=6_040, n_items=3_952)
    split, _ = leave_one_out(events)
    users, items = (IdMap(tuple(map(str, range(1, n + 1)))) for n in (6_040, 3_952))
    found = audit(Dataset("ml-1m", UserCatalog(users), ItemCatalog(items), split))
    assert found["tied_timestamps"].share == pytest.approx(0.532, abs=0.0005)
    times, offsets = events.timestamps, events.offsets
    last = offsets[1:] - 1
    # the test event is the last: it is tied when the event before it has its timestamp; the valid event, one earlier,
    # is tied with the test event or with the one before
    tied = [int((times[last] == times[last - 1]).sum())]
    tied.append(int(((times[last - 1] == times[last]) | (times[last - 1] == times[last - 2])).sum()))
    details = found["tie_decided_targets"].details
    assert [details["test"], details["valid"]] == tied == [2_544, 3_706]
    assert details["test_of"] == 6_040
    assert found.leaks == ()
