"""In a notebook, figures come out as SVG alone."""

import nbformat
from nbclient import NotebookClient

DRAWING = """
from matplotlib import pyplot as plt
from compress_lib import figures
figures.use_book_style()
plt.plot([1, 2], label="a"); plt.legend(); plt.show()
"""


def test_a_notebook_stores_svg_the_same_each_time():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(DRAWING) for _ in range(2)])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    first, second = (cell.outputs for cell in notebook.cells)
    assert [set(output.data) for output in first] == [{"image/svg+xml", "text/plain"}]
    assert first[0].data["image/svg+xml"].startswith("<svg ")
    assert first[0].data == second[0].data
