"""The bar changes nothing about what passes under it."""

from mixtune.data.progress import progress


def test_items_pass_in_order_and_nothing_is_written_without_a_terminal(capsys):
    assert list(progress(iter(range(5)), "counting", 5)) == [0, 1, 2, 3, 4]
    assert list(progress([], "counting", 0)) == []
    assert capsys.readouterr() == ("", "")
