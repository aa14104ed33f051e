"""Times become whole seconds and ratings numbers, or the message names the row."""

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec_core.errors import DataError
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.rows import RowCollector
from rec_data.values import to_keys, to_ratings, to_seconds


def faults(bad_rows="error"):
    return Faults(bad_rows).block(0, lambda row: f"row {row}")


def seconds(values, unit="auto"):
    return to_seconds(pl.Series(values), unit, faults())[0].to_list()


def test_each_unit_is_told_by_its_size():
    moment = 881250949
    for text, unit in (
        (f"{moment}", "seconds"),
        (f"{moment}.75", "seconds"),
        (f"{moment}000", "milliseconds"),
        (f"{moment}999999", "microseconds"),
        (f"{moment}999999999", "nanoseconds"),
        ("1997-12-04T15:55:49Z", "iso"),
    ):
        assert to_seconds(pl.Series([text]), "auto", faults())[0].to_list() == [moment], unit
        assert to_seconds(pl.Series([text]), "auto", faults())[1] == {unit: 1}


def test_mixed_units_are_unified_counted_and_logged(caplog):
    values = pl.Series(["881250949", "881250949000", "1997-12-04 15:55:49", "-5"])
    found, units = to_seconds(values, "auto", faults())
    assert found.to_list() == [881250949, 881250949, 881250949, -5]
    assert units == {"seconds": 2, "milliseconds": 1, "iso": 1}
    collector = RowCollector(ReadSettings())
    for rows in (values.head(2), values.tail(2)):  # two blocks of one file are told of once
        collector.add(pl.DataFrame({"user": ["a", "a"], "item": ["x", "y"], "timestamp": rows}), str)
    collector.finish()
    assert caplog.messages == [
        "timestamps come in several units, each taken as it is: seconds 2, milliseconds 1, iso 1"
    ]


def test_a_named_unit_is_not_guessed():
    assert seconds(["1500"], "milliseconds") == [1]
    assert seconds([-1500], "milliseconds") == [-2]  # rounded down
    assert seconds(["200000000000"], "seconds") == [200000000000]  # the year 8307
    with pytest.raises(DataError, match="row 0: timestamp '1997-12-04'"):
        seconds(["1997-12-04"], "seconds")
    with pytest.raises(DataError, match="row 0: timestamp '17' is no ISO date or time"):
        seconds(["17"], "iso")
    with pytest.raises(DataError, match="row 1: timestamp '9223372036854775807' is outside the years 1 to 9998"):
        seconds(["5", "9223372036854775807"], "seconds")


def test_a_column_that_can_be_no_time_or_rating_is_an_error():
    gone = pl.Series([timedelta(seconds=5)])
    with pytest.raises(DataError, match=r"row 0: the column of the timestamp holds Duration.*; times are numbers"):
        to_seconds(gone, "auto", faults())
    for values in (gone, pl.Series([[1.0]]), pl.Series([date(2020, 1, 1)])):
        with pytest.raises(DataError, match=r"row 0: the column of the rating holds .*; ratings are numbers"):
            to_ratings(values, faults())
    assert to_ratings(pl.Series([True, False]), faults()).to_list() == [1.0, 0.0]


def test_iso_dates_and_times_in_their_usual_spellings():
    day = 1393632000  # 2014-03-01 in UTC
    spelled = {
        "2014-03-01": day,
        "2014-03-01T01:02": day + 3720,
        "2014-03-01 01:02:03": day + 3723,
        "2014-03-01 01:02:03.999": day + 3723,
        "2014-03-01T01:02:03Z": day + 3723,
        "2014-03-01 01:02:03 UTC": day + 3723,
        "2014-03-01T01:02:03+02:00": day + 3723 - 7200,
        "2014-03-01T01:02:03.5-0130": day + 3723 + 5400,
    }
    assert seconds(list(spelled)) == list(spelled.values())


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    st.none() | st.integers(-12 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))),
)
def test_iso_text_agrees_with_the_standard_library(moment, zone):
    moment = moment.replace(tzinfo=zone, microsecond=0)
    utc = moment if zone else moment.replace(tzinfo=UTC)
    assert seconds([moment.isoformat()]) == [round((utc - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())]


def test_typed_dates_from_parquet():
    assert seconds([date(1970, 1, 2), date(1969, 12, 31)]) == [86400, -86400]
    assert seconds([datetime(1970, 1, 1, 0, 0, 1, 900_000)]) == [1]
    zoned = pl.Series([datetime(1970, 1, 1, 1, tzinfo=UTC)]).dt.convert_time_zone("Europe/Berlin")
    assert to_seconds(zoned, "auto", faults())[0].to_list() == [3600]


@pytest.mark.parametrize(
    "wrong", ["soon", "", "NaN", "inf", "03/01/2014", "2014-02-30", "2014-13-01", "1 2", "1,5", None]
)
def test_a_time_that_is_none_is_named_with_its_row(wrong):
    message = "row 2: the timestamp is empty" if wrong is None else f"row 2: timestamp {wrong!r} is no number"
    with pytest.raises(DataError, match=message):
        seconds(["1", "2", wrong, "4"])


def test_ratings_are_finite_numbers():
    assert to_ratings(pl.Series(["4", "3.5", "-1e2"]), faults()).to_list() == [4.0, 3.5, -100.0]
    for wrong, message in (
        ("good", "row 1: rating 'good' is no number"),
        ("NaN", "row 1: rating 'NaN' is not finite"),
        ("inf", "row 1: rating 'inf' is not finite"),
        (None, "row 1: the rating is empty"),
        ("3,5", "row 1: rating '3,5' is no number; decimals are written with a point"),
    ):
        with pytest.raises(DataError, match=message):
            to_ratings(pl.Series(["1", wrong]), faults())
    with pytest.raises(DataError, match=r"row 0: rating nan is not finite; .* \(1 more row like it\)"):
        to_ratings(pl.Series([float("nan"), float("nan")]), faults())


def test_keys_are_text_or_whole_numbers():
    assert to_keys(pl.Series(["0012", None]), "user key", faults()).to_list() == ["0012", None]
    assert to_keys(pl.Series([12, 7]), "user key", faults()).to_list() == [12, 7]
    assert to_keys(pl.Series([12.0, float("nan")]), "user key", faults()).to_list() == [12, None]
    assert to_keys(pl.Series([12, -7]), "user key", faults()).to_list() == ["12", "-7"]
    assert to_keys(pl.Series([10**18]), "user key", faults()).to_list() == ["1000000000000000000"]
    with pytest.raises(DataError, match=r"row 0: user key 1\.5 is no whole number"):
        to_keys(pl.Series([1.5]), "user key", faults())
    with pytest.raises(DataError, match="holds Boolean"):
        to_keys(pl.Series([True]), "user key", faults())
