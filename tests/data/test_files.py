"""JSON files row by row: both layouts, the right line for each row, and what a wrong line leads to."""

import pytest

from mixtune.data.files import read_rows
from mixtune.data.formats import RowError
from mixtune.data.sample import DataError


@pytest.fixture
def rows_of(tmp_path, monkeypatch):
    """Rows of a file with these bytes, under the name d.json in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "d.json"

    def rows(data: bytes):
        path.write_bytes(data)
        return list(read_rows(path.relative_to(tmp_path)))

    return rows


@pytest.mark.parametrize("data", [
    b'{"a": 1}\n\n{"a": "\xc3\xa9"}\n', b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": "\xc3\xa9"}',
    b'[{"a": 1},\n\n{"a": "\xc3\xa9"}]', b'\xef\xbb\xbf [\n{"a": 1},{"a": "\xc3\xa9"}\n]\n',
])  # fmt: skip
def test_lines_and_arrays_give_the_same_rows(rows_of, data):
    assert [row for _, row in rows_of(data)] == [{"a": 1}, {"a": "é"}]


def test_rows_know_their_line(rows_of):
    assert [origin for origin, _ in rows_of(b'{"a": 1}\n\n{"a": 2}\n')] == ["d.json:1", "d.json:3"]
    array = b'[\n {"a": 1,\n  "b": 2},\n\n {"a": 2}, {"a": 3}\n]'
    assert [origin for origin, _ in rows_of(array)] == ["d.json:2", "d.json:5", "d.json:5"]
    assert rows_of(b"[]") == []


def test_a_wrong_line_is_reported_and_the_others_are_read(rows_of):
    found = rows_of(b'{"a": 1}\n{"a": 2,}\n{"a": "\xff"}\n{"a": 3}\n')
    assert [found[0][1], found[3][1]] == [{"a": 1}, {"a": 3}]
    assert all(isinstance(row, RowError) for _, row in found[1:3])
    assert found[1][0] == "d.json:2"
    assert str(found[1][1]).startswith('line: {"a": 2,} is not JSON: ')
    assert "(column " in str(found[1][1])
    assert str(found[2][1]).endswith("is not UTF-8 (byte 7)")


def test_a_mistake_in_an_array_ends_the_reading_with_its_line(rows_of):
    with pytest.raises(DataError, match=r"d\.json:3: is not JSON: .* \(column"):
        rows_of(b'[\n{"a": 1},\n{"a" 2},\n{"a": 3}]')
    with pytest.raises(DataError, match=r"d\.json:3: is not JSON: expected ',' or '\]'"):
        rows_of(b'[\n{"a": 1}\n{"a": 2}]')
    with pytest.raises(DataError, match=r"d\.json:2: is not JSON"):
        rows_of(b'[{"a": 1},\n')
    with pytest.raises(DataError, match=r"d\.json:2: is not UTF-8 \(byte 13\)"):
        rows_of(b'[{"a": 1},\n{"\xff": 1}]')


def test_missing_and_empty_files(rows_of, tmp_path):
    with pytest.raises(DataError, match=r"d\.json: is empty"):
        rows_of(b" \n")
    with pytest.raises(DataError, match=r"other\.json: cannot be read"):
        list(read_rows(tmp_path / "other.json"))
