"""Text to times and ratings, without a guess that nobody hears of."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from rec_core.errors import DataError
from rec_data.config import TimestampUnit
from rec_data.faults import BlockFaults

PER_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
# 1e11 is the year 5138 in seconds and March 1973 in milliseconds; the same holds three digits further on
_SIZES = (10**11, 10**14, 10**17)
EARLIEST, LATEST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1850, 2262))
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1, 9999))  # what calendars can show


def to_seconds(values: pl.Series, unit: TimestampUnit, faults: BlockFaults) -> tuple[pl.Series, dict[str, int]]:
    """Whole seconds since 1970 (Int64, rounded down) and how many values came in which unit.

    With unit ``auto`` a number's size tells its unit: below 1e11 seconds, below 1e14 milliseconds, below 1e17
    microseconds, else nanoseconds; text that is no number is an ISO date or date and time, in UTC where it names no
    zone. A value that is empty, none of these or outside the years 1 to 9998 is a fault (``bad_timestamp``); with
    ``auto`` outside 1850 to 2261, because 20190301120000 would else pass for milliseconds of the year 2609. A column
    of another type is a :class:`DataError`.
    """
    _check_type(values, "timestamp", "times are numbers, dates or text", faults)
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        zone = getattr(values.dtype, "time_zone", None)
        seconds = values.cast(pl.Datetime("us", zone)).dt.timestamp("us") // 10**6
        found = {"dates": len(values) - values.null_count()}
        _refuse(values, values.is_null(), "timestamp", faults)
    else:
        seconds, found = _from_numbers_and_text(values, unit)
        no_unit = {"auto": None, "iso": "is no ISO date or time"}.get(unit, f"is no number of {unit}")
        _refuse(values, seconds.is_null(), "timestamp", faults, no_unit)
    first, end = (EARLIEST, LATEST) if unit == "auto" else (FIRST, LAST)
    if len(seconds):
        least, most = seconds.min(), seconds.max()
        if least is not None and (least < first or most >= end):  # type: ignore[operator]
            years = "1850 to 2261; name its" if unit == "auto" else "the years 1 to 9998; is that its"
            mark = "" if unit == "auto" else "?"
            outside = (seconds < first) | (seconds >= end)
            _refuse(values, outside, "timestamp", faults, f"is outside {years} --timestamp-unit{mark}")
    return seconds, {name: n for name, n in found.items() if n}


def _from_numbers_and_text(values: pl.Series, unit: TimestampUnit) -> tuple[pl.Series, dict[str, int]]:
    """Seconds, null where there are none to be had."""
    numbers = _numbers(values)
    if unit == "auto":
        seconds, found = _by_size(numbers)
    elif unit == "iso":
        seconds, found = pl.repeat(None, len(values), dtype=pl.Int64, eager=True), {}
    else:
        seconds, found = _per_second(numbers, PER_SECOND[unit]), {unit: len(values) - numbers.null_count()}
    if unit in ("auto", "iso") and values.dtype == pl.String and seconds.null_count():
        dates = _iso_seconds(values.filter(seconds.is_null()))
        found["iso"] = len(dates) - dates.null_count()
        seconds = seconds.scatter(seconds.is_null().arg_true(), dates)
    return seconds, found


def _numbers(values: pl.Series) -> pl.Series:
    """Int64 where every value is a whole number, else Float64; null where a value is no finite number."""
    whole = values.cast(pl.Int64, strict=False)
    if values.dtype.is_integer() or whole.null_count() == 0:
        return whole
    decimal = values.cast(pl.Float64, strict=False)
    return pl.select(pl.when(decimal.is_finite()).then(decimal)).to_series()


def _by_size(numbers: pl.Series) -> tuple[pl.Series, dict[str, int]]:
    """Seconds of numbers whose unit follows from their size, value by value."""
    size = numbers.abs()
    if not (size >= _SIZES[0]).any():  # the usual column, without copies
        return _per_second(numbers, 1), {"seconds": len(numbers) - numbers.null_count()}
    step = pl.select(sum((size >= first).cast(pl.UInt8) for first in _SIZES)).to_series()
    divisor = pl.Series([1000**i for i in range(len(_SIZES) + 1)]).gather(step)
    return _per_second(numbers, divisor), {name: int((step == i).sum()) for i, name in enumerate(PER_SECOND)}


def _per_second(numbers: pl.Series, per_second: int | pl.Series) -> pl.Series:
    if numbers.dtype.is_integer():
        return numbers if isinstance(per_second, int) and per_second == 1 else numbers // per_second
    return (numbers / per_second).floor().cast(pl.Int64, strict=False)


def _iso_seconds(text: pl.Series) -> pl.Series:
    """Seconds of ISO 8601 dates and times; null where the text is none."""
    one_form = (
        text.str.strip_chars()
        .str.replace(r"^(\d{4}-\d{2}-\d{2})$", "${1}T00:00:00")
        .str.replace(r"^(\d{4}-\d{2}-\d{2}) ", "${1}T")
        .str.replace(r" ?(?:[zZ]|UTC)$", "+00:00")
        .str.replace(r"(T\d{2}:\d{2})([+-]|$)", "${1}:00${2}")
        .str.replace(r"(T[0-9:.,]+)$", "${1}+00:00")
    )
    moments = one_form.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", strict=False, time_zone="UTC")
    return moments.dt.timestamp("us") // 10**6


def to_ratings(values: pl.Series, faults: BlockFaults) -> pl.Series:
    """Ratings as Float32; one that is empty, no number, NaN or infinite is a fault (``bad_rating``)."""
    _check_type(values, "rating", "ratings are numbers", faults)
    numbers = values.cast(pl.Float64, strict=False).cast(pl.Float32)
    wrong = numbers.is_null()
    if wrong.any() and values.dtype == pl.String:
        comma = values.str.contains(r"^\s*[+-]?\d+,\d+\s*$").fill_null(False)
        _refuse(values, wrong & comma, "rating", faults, "is no number; decimals are written with a point")
    _refuse(values, wrong, "rating", faults)
    _refuse(values, ~numbers.is_finite(), "rating", faults, "is not finite; ratings are ordinary numbers")
    return numbers


def to_keys(values: pl.Series, what: str, faults: BlockFaults) -> pl.Series:
    """Raw keys as text, or as Int64 where all are whole numbers from 0; null and empty text stay null.

    A number with a fraction is a fault (``bad_key``); a column of another type is a :class:`DataError`.
    """
    if values.dtype == pl.String:
        return values
    if values.dtype.is_float():
        values = values.fill_nan(None)
        _refuse(values, values.is_not_null() & (values != values.floor()), what, faults, "is no whole number")
        values = values.cast(pl.Int64, strict=False)
    if values.dtype.is_integer():
        least, most = values.min(), values.max()
        plain = least is None or (least >= 0 and most < 10**18)  # type: ignore[operator]
        return values.cast(pl.Int64 if plain else pl.String)
    if values.dtype in (pl.Categorical, pl.Enum, pl.Null):
        return values.cast(pl.String)
    raise DataError(f"{faults.where(0)}: the column of the {what} holds {values.dtype}; raw keys are text or numbers")


def _check_type(values: pl.Series, what: str, wanted: str, faults: BlockFaults) -> None:
    kind = values.dtype
    dates = what == "timestamp" and (kind == pl.Date or isinstance(kind, pl.Datetime))
    if not (dates or kind.is_numeric() or kind in (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Null)):
        raise DataError(f"{faults.where(0)}: the column of the {what} holds {kind}; {wanted}")


def _refuse(values: pl.Series, wrong: pl.Series, what: str, faults: BlockFaults, problem: str | None = None) -> None:
    def message(row: int) -> str:
        value = values[row]
        if value is None:
            return f"the {what} is empty"
        return f"{what} {value!r} {problem or 'is no ' + _KIND[what]}"

    faults.refuse(wrong, f"bad_{what.split()[-1]}", message)


_KIND = {"timestamp": "number of seconds or milliseconds and no ISO date", "rating": "number"}
