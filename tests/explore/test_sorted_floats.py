"""Sorted numbers arrive in JavaScript as they were."""

import base64

import numpy as np
import pytest
from browsing import new_page
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compress_lib.explore.frontend import explorer
from compress_lib.explore.frontend.packing import pack
from compress_lib.explore.frontend.sorted_floats import pack_sorted

READ = """async ([explorer, packed]) => {
    const { unpack } = await import(URL.createObjectURL(new Blob([explorer], { type: "text/javascript" })));
    return Array.from(unpack(packed));
}"""


@pytest.fixture(scope="module")
def page(browser):
    page = new_page(browser)
    yield page
    page.close()


def hard_cases():
    """The ends of the format, the floats beside 0, equal ones, and bit patterns drawn evenly."""
    limits = np.finfo(np.float32)
    ends = [0.0, -0.0, limits.tiny, limits.max, limits.smallest_subnormal, 1.0, 1.0, np.pi]
    drawn = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    return np.concatenate([ends, np.negative(ends), drawn[np.isfinite(drawn)]]).astype(np.float32)


@pytest.mark.parametrize("values", [hard_cases(), np.float32([[-2.5]]), np.float32([3, 3, 3])], ids=len)
def test_the_reader_gives_back_the_sorted_numbers(page, values):
    source = (explorer.HERE / "packing.mjs").read_text(encoding="utf-8")
    found = page.evaluate(READ, [source, pack(pack_sorted(values), "values")])
    np.testing.assert_array_equal(np.array(found, dtype=np.float64), np.sort(values, axis=None))


def decoded(content: bytes) -> np.ndarray:
    """One byte at a time, over Python's integers."""
    keys, gap, shift = [0], 0, 0
    for byte in content:
        gap |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            keys.append(keys[-1] + gap)
            gap = shift = 0
    assert shift == 0
    bits = [key - 2**31 if key >= 2**31 else 2**32 - 1 - key for key in keys[1:]]
    return np.array(bits, dtype=np.uint32).view(np.float32)


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, st.integers(1, 30), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_nothing_is_lost(values):
    before = values.copy()
    packed = pack_sorted(values)
    np.testing.assert_array_equal(decoded(base64.b64decode(packed["base64"])), np.sort(values))
    np.testing.assert_array_equal(values.view(np.uint32), before.view(np.uint32))


def test_numbers_of_one_size_take_about_two_bytes():
    values = np.random.default_rng(0).normal(size=30_000)
    assert len(base64.b64decode(pack_sorted(values)["base64"])) < 2.3 * values.size
