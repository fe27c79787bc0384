import pytest

from compress_lib.ops import native


@pytest.fixture(params=["reference", *native.BACKENDS])
def backend(request, monkeypatch):
    """Each of the backends that this machine has, forced."""
    if request.param not in native.available():
        pytest.skip(f"no {request.param} on this machine")
    monkeypatch.setenv("COMPRESS_LIB_BACKEND", request.param)
    return request.param
