import matplotlib
import pytest
from matplotlib import pyplot as plt

from compress_lib import figures


@pytest.fixture(autouse=True)
def book_style():
    """The style in each test, and nothing of it after."""
    with matplotlib.rc_context():
        plt.switch_backend("agg")
        figures.use_book_style()
        yield
        plt.close("all")
