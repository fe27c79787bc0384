from dataclasses import dataclass

from compress_lib.pruning.weights import magnitude
from compress_lib.report import Report


@dataclass
class Row:
    layer: str
    weights: int
    kept: int
    sparsity: float


def test_text_has_the_totals_the_warnings_and_the_reasons():
    rows = [Row("a", 1000, 250, 0.75), Row("b", 3000, 150, 0.95)]
    skipped = {"a.bias": "biases", "b.bias": "biases", "c.bias": "biases", "d.bias": "biases", "e": "excluded"}
    report = Report(rows, skipped, ["mind <b>"], "A title")
    lines = str(report).splitlines()
    assert (report.weights, report.kept, report.sparsity) == (4000, 400, 0.9)
    assert lines[0] == "A title"
    assert lines[4].split() == ["a", "1,000", "250", "75.00%"]
    assert lines[7].split() == ["total", "4,000", "400", "90.00%"]
    assert lines[8:] == [
        "Warning: mind <b>",
        "Skipped (biases): a.bias, b.bias, c.bias and 1 more",
        "Skipped (excluded): e",
    ]
    assert "<li>Warning: mind &lt;b&gt;</li>" in report._repr_html_()


def test_no_rows():
    report = Report([], {"a": "because"})
    assert (report.weights, report.kept, report.sparsity) == (0, 0, 0.0)
    assert "Skipped (because): a" in str(report)
    assert "<li>Skipped (because): a</li>" in report._repr_html_()


def test_a_real_report_is_a_table_with_a_caption(network):
    _, report = magnitude.prune(network, 0.9)
    html = report._repr_html_()
    assert "<caption>Magnitude pruning, scope global</caption>" in html
    assert '<th scope="row" style="text-align: left">4</th>' in html
    assert "BatchNorm2d parameters are not pruned" in html
