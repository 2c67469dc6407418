"""Counts that are one of a few."""

import pytest

from bbb.core.tiles import rounded_up


@pytest.mark.parametrize(("least", "parts"), [(8, 8), (32, 2), (1, 1)])
def test_a_count_is_rounded_up_to_one_of_few_and_stays_there(least, parts):
    found = [rounded_up(count, least, parts) for count in range(1, 5000)]
    assert found == sorted(found)
    for count, up in enumerate(found, start=1):
        assert count <= up < count + max(least, count / parts + 1)
        assert rounded_up(up, least, parts) == up
    assert len({up for up in found if 1024 < up <= 2048}) == min(parts, 1024 // least)


def test_the_counts_up_to_two_hundred():
    assert {rounded_up(count) for count in range(1, 129)} == set(range(8, 129, 8))
    assert {rounded_up(count) for count in range(129, 201)} == {144, 160, 176, 192, 208}
