"""docs/reliability.md lists each guarantee (promise) with its tests, as the markers of the tests say."""

from promises import PAGE, PROMISES, page_with_table, tests_by_promise


def test_every_promise_has_a_test_and_every_marker_a_promise():
    names = [promise.name for promise in PROMISES]
    assert len(set(names)) == len(names) > 40
    assert set(tests_by_promise()) == set(names)


def test_the_table_of_the_page_is_the_one_that_the_markers_give():
    assert PAGE.read_text(encoding="utf-8") == page_with_table(), "run `python tests/promises.py` to write the table"
