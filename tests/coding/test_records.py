import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress_lib.coding import records


def test_bytes_by_hand():
    assert [records.varint(n) for n in (0, 127, 128, 300)] == [b"\0", b"\x7f", b"\x80\x01", b"\xac\x02"]
    assert records.varint(2**56 - 1) == b"\xff" * 7 + b"\x7f"
    assert records.text("ä1") == b"\x03\xc3\xa41"
    assert records.numbers(np.array([5, 7, 300])) == bytes([0, 5, 9]) + bytes(
        [0b00000000, 0b00000000, 0b10100100, 0b11100000]
    )
    assert records.numbers(np.array([], int)) == records.numbers(np.zeros(9, int)) == b"\0\0\0"


@given(st.integers(0, 2**56 - 1), st.text(), st.lists(st.integers(0, 65535)))
def test_what_was_written_is_read(number, string, values):
    data = records.varint(number) + records.text(string) + records.numbers(np.array(values, int)) + b"rest"
    reader = records.Reader(memoryview(bytearray(data)))
    assert reader.varint() == number
    assert reader.text() == string
    assert reader.numbers(len(values)).tolist() == values
    assert reader.left() == 4
    with pytest.raises(ValueError, match=f"data must end after byte {len(data) - 4}, got 4 more"):
        reader.end()
    assert reader.read(4) == b"rest"
    reader.end()


def test_numbers_outside_the_range():
    for number in (-1, 2**56):
        with pytest.raises(ValueError, match=f"number must be from 0 to 2\\^56 − 1, got {number}"):
            records.varint(number)


@pytest.mark.parametrize(
    ("data", "read", "message"),
    [
        (b"", lambda r: r.varint(), "data is truncated: 1 bytes should follow byte 0, not 0"),
        (b"\x80", lambda r: r.varint(), "data is truncated"),
        (b"\xff" * 8 + b"\0", lambda r: r.varint(), "data has a number of more than 8 bytes before byte 8"),
        (b"\x05ab", lambda r: r.text(), "data is truncated: 5 bytes should follow byte 1, not 2"),
        (b"\x01\xff", lambda r: r.text(), "data has a text that is not UTF-8 before byte 2"),
        (b"ab", lambda r: r.read(2**60), "data is truncated"),
        (b"\0\0\x11", lambda r: r.numbers(0), "data has a list with a width of 17 bits, above 16"),
        (b"\0\0\x10", lambda r: r.numbers(2**50), "data is truncated"),
    ],
)
def test_data_that_does_not_fit_is_refused(data, read, message):
    with pytest.raises(ValueError, match=message):
        read(records.Reader(data))
