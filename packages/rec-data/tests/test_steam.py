"""Steam reviews and games: Python literals, one per line."""

import gzip

import pytest

from rec_core.errors import DataError
from rec_data.config import ReadSettings
from rec_data.readers.steam import read_steam

REVIEWS = [
    "{u'username': u'Chaos Syren', u'hours': 0.1, u'products': 41, u'product_id': u'725280', u'date': u'2017-12-17', "
    "u'text': u'This isn\\'t \"fun\"\\n\\xe9', u'early_access': False, 'user_id': '7656'}",
    "{u'username': u\"It's me\", u'product_id': u'328100', u'date': u'2017-08-02', u'text': u'', u'hours': 13.2}",
]
GAMES = [
    "{u'publisher': u'Kotoshiro', u'genres': [u'Action', u'Indie'], u'app_name': u'Lost Kitty', u'title': u'Lost', "
    "u'url': u'http://x', u'release_date': u'2018-01-04', u'tags': [u'Strategy'], u'discount_price': 4.49, "
    "u'reviews_url': u'y', u'specs': [u'Single-player'], u'price': 4.99, u'id': u'725280', u'developer': u'K', "
    "'sentiment': 'Mostly Positive', 'metascore': 96}",
    "{u'id': u'328100', u'title': u'Only a Title', u'price': u'Free To Play'}",
    "{u'app_name': u'no id'}",
    "{u'app_name': u'again', u'id': u'328100'}",
]


def folder(path, ending=""):
    path.mkdir()
    for name, rows in (("steam_reviews.json", REVIEWS), ("steam_games.json", GAMES)):
        data = "".join(f"{row}\n" for row in rows).encode()
        (path / f"{name}{ending}").write_bytes(gzip.compress(data) if ending else data)
    return path


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_every_review_is_an_event_and_games_have_their_texts(tmp_path, ending):
    raw = read_steam(folder(tmp_path / "steam", ending), ReadSettings())
    assert raw.rows.frame().rows() == [("Chaos Syren", "725280", 1513468800), ("It's me", "328100", 1501632000)]
    assert raw.items.to_dict(as_series=False) == {
        "key": ["725280", "328100"],
        "title": ["Lost Kitty", "Only a Title"],
        "genres": [["Action", "Indie"], None],
        "tags": [["Strategy"], None],
        "specs": [["Single-player"], None],
        "developer": ["K", None],
        "publisher": ["Kotoshiro", None],
        "release_date": ["2018-01-04", None],
        "price": ["4.99", "Free To Play"],
    }
    assert raw.facts["item_rows_left_out"] == {"missing_key": 1, "repeated_key": 1}
    assert raw.facts["item_fields_left_out"] == ["url", "discount_price", "reviews_url", "sentiment", "metascore"]


def test_hours_may_be_the_rating_and_texts_are_kept_on_request(tmp_path):
    raw = read_steam(folder(tmp_path / "steam"), ReadSettings(rating_column="hours", reviews=True))
    assert [round(hours, 1) for hours in raw.rows.ratings.tolist()] == [0.1, 13.2]
    assert raw.reviews.select("user", "text").rows() == [("Chaos Syren", 'This isn\'t "fun"\né')]
    assert raw.facts["reviews_without_text"] == 1
    with pytest.raises(DataError, match=r"has no 'hour', wanted in the steam layout; .*did you mean 'hours'"):
        read_steam(tmp_path / "steam", ReadSettings(rating_column="hour"))


def test_another_directory_is_no_steam(tmp_path):
    (tmp_path / "australian_user_reviews.json.gz").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"australian_user_reviews\.json\.gz is of the first version, which is not read"
    ):
        read_steam(tmp_path, ReadSettings())
    path = folder(tmp_path / "steam")
    (path / "steam_games.json").unlink()
    assert read_steam(path / "steam_reviews.json", ReadSettings()).items is None
