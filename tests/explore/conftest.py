import pytest
from browsing import new_page

from compress_lib.explore.frontend import explorer

EXPLORE = explorer.EXPLORERS
CALL = """async ([explorer, charts, source, packed, states]) => {
    const load = (text) => import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    const [{ unpack }, { format, draw }, { compute, labels }] = await Promise.all([explorer, charts, source].map(load));
    const data = unpack(packed);
    return states.map((state) => {
        const answer = compute(data, state, format);
        const colors = { plus: "rgb(0,0,1)", minus: "rgb(1,0,0)" };
        const drawn = (answer.charts ?? []).map((chart) => draw(chart, 320, colors).innerHTML);
        return { ...answer, charts: drawn, labels: Object.keys(labels) };
    });
}"""


@pytest.fixture(scope="module")
def compute(browser):
    """``compute(widget, states)``: the answers of an explorer's JavaScript, away from any page, with the "
    "charts as drawn."""
    page = new_page(browser)
    front = (EXPLORE / "frontend/explorer.mjs").read_text(encoding="utf-8")

    def run(widget, states):
        answers = page.evaluate(CALL, [front, widget._charts, widget._compute, widget.data, states])
        for answer in answers:
            assert sorted(answer["results"]) == sorted(answer["labels"])
            assert answer["sentence"] and "NaN" not in answer["sentence"] and "undefined" not in answer["sentence"]
            assert not any("NaN" in drawn or "undefined" in drawn or "Infinity" in drawn for drawn in answer["charts"])
        return answers

    yield run
    page.close()
