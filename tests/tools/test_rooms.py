"""The picture of the rooms in docs/ shows the imports that there are."""

from scripts.rooms import (
    PICTURE,
    floors,
    imports_between_rooms,
    imports_of_modules,
    order_of_rooms,
    picture,
)


def test_picture_shows_the_imports_that_there_are() -> None:
    pairs = set(imports_between_rooms(imports_of_modules()))
    assert PICTURE.read_text(encoding="utf-8") == picture(pairs, order_of_rooms())


def test_rooms_are_twelve_and_import_downwards_only() -> None:
    rooms = order_of_rooms()
    assert len(rooms) == 12
    assert all(
        rooms.index(one) < rooms.index(other) for one, other in imports_between_rooms(imports_of_modules())
    )


def test_floors_are_those_of_the_longest_chain() -> None:
    assert floors({"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": {"c"}}) == 3
