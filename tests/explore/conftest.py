import live_page
import pytest
from browsing import new_page

CALL = """async ([explorer, charts, source, packed, states]) => {
    const load = (text) => import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    const [{ unpack }, { format, draw }, { compute, labels }] = await Promise.all([explorer, charts, source].map(load));
    const data = unpack(packed);
    return states.map((state) => {
        const answer = compute(data, state, format);
        const colors = { plus: "rgb(0,0,1)", minus: "rgb(1,0,0)" };
        const drawn = (answer.charts ?? []).map((chart) => draw(chart, 320, colors).innerHTML);
        const tables = typeof answer.tables === "function" ? answer.tables() : answer.tables;
        const words = [answer.sentence, answer.details].filter(Boolean).join(" ");
        return { ...answer, charts: drawn, tables, words, labels: Object.keys(labels) };
    });
}"""


@pytest.fixture(scope="module")
def compute(browser):
    """``compute(widget, states)``: the answers of an explorer's JavaScript, away from any page, charts as drawn.

    An answer has ``words``, all that it says: the sentence that is always seen, and the details.
    """
    page = new_page(browser)

    def run(widget, states):
        answers = page.evaluate(CALL, [widget._esm, widget._charts, widget._compute, widget.data, states])
        for answer in answers:
            assert sorted(answer["results"]) == sorted(answer["labels"])
            assert answer["sentence"] and "NaN" not in answer["words"] and "undefined" not in answer["words"]
            assert len(answer["sentence"]) <= 150, "there is room for no more"
            assert len(answer.get("spoken", "")) <= 80
            assert not any("NaN" in drawn or "undefined" in drawn or "Infinity" in drawn for drawn in answer["charts"])
        return answers

    yield run
    page.close()


@pytest.fixture(scope="module")
def modules(browser):
    """A page that can import the live network's modules."""
    with live_page.opened(browser) as page:
        yield page
