"""Text to times and ratings, without a guess that nobody hears of."""

from __future__ import annotations

import logging
from collections.abc import Callable

import polars as pl

from rec_core.errors import DataError
from rec_data.config import TimestampUnit

log = logging.getLogger(__name__)

Where = Callable[[int], str]  # row -> "ratings.csv, line 17"

PER_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
# 1e11 is the year 5138 in seconds and March 1973 in milliseconds; the same holds three digits further on
_SIZES = (10**11, 10**14, 10**17)


def to_seconds(values: pl.Series, unit: TimestampUnit, where: Where) -> tuple[pl.Series, dict[str, int]]:
    """Whole seconds since 1970 (Int64, rounded down) and how many values came in which unit.

    With unit ``auto`` a number's size tells its unit: below 1e11 seconds, below 1e14 milliseconds, below 1e17
    microseconds, else nanoseconds; text that is no number is an ISO date or date and time, in UTC where it names no
    zone. Raises :class:`DataError` for a value that is empty or none of these.
    """
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        _refuse(values, values.is_null(), "timestamp", where)
        seconds = values.cast(pl.Datetime("us", getattr(values.dtype, "time_zone", None))).dt.timestamp("us") // 10**6
        return seconds, {"dates": len(values)}
    numbers = _numbers(values)
    if unit == "auto":
        seconds, found = _by_size(numbers)
    elif unit == "iso":
        seconds, found = pl.repeat(None, len(values), dtype=pl.Int64, eager=True), {}
    else:
        seconds, found = _per_second(numbers, PER_SECOND[unit]), {unit: len(values)}
    if unit in ("auto", "iso") and values.dtype == pl.String and seconds.null_count():
        dates = _iso_seconds(values.filter(seconds.is_null()))
        found["iso"] = len(dates) - dates.null_count()
        seconds = seconds.scatter(seconds.is_null().arg_true(), dates)
    _refuse(values, seconds.is_null(), "timestamp", where)
    found = {name: n for name, n in found.items() if n}
    if len(found) > 1:
        log.warning("timestamps come in several units, each taken as it is: %s", found)
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


def to_ratings(values: pl.Series, where: Where) -> pl.Series:
    """Ratings as Float32; :class:`DataError` for one that is empty, no number, NaN or infinite."""
    numbers = values.cast(pl.Float64, strict=False).cast(pl.Float32)
    _refuse(values, numbers.is_null(), "rating", where)
    _refuse(values, ~numbers.is_finite(), "rating", where, "is not finite; ratings are ordinary numbers")
    return numbers


def to_keys(values: pl.Series, what: str, where: Where) -> pl.Series:
    """Raw keys as text; null stays null. :class:`DataError` for numbers with a fraction and for other types."""
    if values.dtype == pl.String:
        return values
    if values.dtype.is_float():
        values = values.fill_nan(None)
        _refuse(values, values.is_not_null() & (values != values.floor()), what, where, "is no whole number")
        return values.cast(pl.Int64, strict=False).cast(pl.String)
    if values.dtype.is_integer() or values.dtype in (pl.Categorical, pl.Enum):
        return values.cast(pl.String)
    if values.dtype == pl.Null:
        return values.cast(pl.String)
    raise DataError(f"{where(0)}: the column of the {what} holds {values.dtype}; raw keys are text or whole numbers")


def _refuse(values: pl.Series, wrong: pl.Series, what: str, where: Where, problem: str | None = None) -> None:
    """Raise for the first wrong value."""
    at = wrong.fill_null(False).arg_max() if wrong.any() else None
    if at is None:
        return
    value = values[at]
    more = int(wrong.sum()) - 1
    others = f" ({more:,} more rows like it)" if more else ""
    if value is None:
        raise DataError(f"{where(at)}: the {what} is empty{others}")
    raise DataError(f"{where(at)}: {what} {value!r} {problem or 'is no ' + _KIND[what]}{others}")


_KIND = {"timestamp": "number of seconds or milliseconds and no ISO date", "rating": "number"}
