"""What Python packs is what the browser unpacks."""

import json

import numpy as np
import pytest
from browsing import new_page
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from compress_lib.explore.frontend import explorer
from compress_lib.explore.frontend.packing import pack

PACKING = (explorer.HERE / "packing.mjs").read_text(encoding="utf-8")


def test_arrays_arrive_in_javascript(browser):
    rng = np.random.default_rng(0)
    sent = {
        "flags": np.array([True, False]),
        "nested": [{"a": None, "b": "text", "c": 1.5}],
        "number": np.float32(0.25),
    }
    for dtype in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"):
        sent[dtype] = (rng.normal(size=(3, 4)) * 100).astype(dtype)
    sent["half"] = np.array([0, -0.0, 1, -2.5, 65504, 6e-8, 1e-4, 0.333], dtype="float16")
    page = new_page(browser)
    received = page.evaluate(
        """async ([source, packed]) => {
            const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
            const plain = (v) => v?.shape ? { shape: v.shape, values: Array.from(v) }
                : v && typeof v === "object" && !Array.isArray(v)
                  ? Object.fromEntries(Object.entries(v).map(([k, x]) => [k, plain(x)]))
                  : v;
            return plain(module.unpack(packed));
        }""",
        [PACKING, pack(sent, "data")],
    )
    page.close()
    assert received["nested"] == sent["nested"] and received["number"] == 0.25
    for name, value in sent.items():
        if isinstance(value, np.ndarray):
            assert received[name]["shape"] == list(value.shape)
            np.testing.assert_array_equal(received[name]["values"], value.ravel().astype(float))


@settings(max_examples=50, deadline=None)
@given(
    arrays(
        st.sampled_from([np.float32, np.int16, np.uint8]),
        array_shapes(max_dims=3, max_side=4),
        elements={"min_value": 0, "max_value": 9},
    )
)
def test_packed_data_are_json_and_leave_the_array_alone(array):
    before = array.copy()
    packed = pack({"x": array, "t": (1, 2)}, "data")
    assert json.loads(json.dumps(packed)) == packed
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ({"a": [1, float("nan")]}, ValueError, r"data\['a'\]\[1\] must be finite"),
        ({"a": np.array([1, np.inf])}, ValueError, r"data\['a'\] must be finite"),
        ({"a": {1, 2}}, TypeError, r"data\['a'\] must be a number.*got set"),
        ({"a": np.array(["x"])}, TypeError, r"data\['a'\] must be an array of one of"),
        ({"a": np.arange(3)}, TypeError, "int64"),
    ],
)
def test_what_a_browser_cannot_hold_is_refused_by_name(value, error, words):
    with pytest.raises(error, match=words):
        pack(value, "data")
