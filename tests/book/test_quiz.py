"""A quiz keeps score, a chapter's progress is shown beside it, and both stay in the reader's browser."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import CONTRAST, WCAG, lay_out, new_page, settle, wake, watch

CHAPTER, CHAPTERS_LINK = "notebooks/02-pruning-weights.html", ".bd-docs-nav a[href*='02-'], .bd-docs-nav .current > a"
HOW_TO_READ = "book/how-to-read.html"
KEY = "compress-lib progress"


class Reader:
    """A page of chapter 2, and what one does with it."""

    def __init__(self, page, address):
        self.page, self.address = page, address

    def go(self, path=CHAPTER):
        settle(self.page, f"{self.address}/{path}")

    def answers(self, question):
        return self.page.locator(f"#question-2-{question} > details")

    def answer(self, question, right: bool):
        """An answer to question 1, 2, …, and its summary."""
        said = "Right." if right else "No."
        fold = self.answers(question).filter(has=self.page.locator("strong", has_text=said)).first
        return fold, fold.locator("summary")

    def score(self):
        return self.page.locator(".quiz-score").inner_text()

    def progress(self):
        """What the list of chapters says of chapter 2."""
        marks = self.page.locator(CHAPTERS_LINK).locator(".progress-marks")
        return marks.get_attribute("title") if marks.count() else None

    def remembered(self):
        """The lines of the panel."""
        return [line for line in self.page.locator("#remembered").inner_text().split("\n") if line]


@pytest.fixture
def reader(request, browser, address):
    page = new_page(browser, color_scheme="light", viewport={"width": 1280, "height": 800})
    troubles = watch(page, address)
    for script in getattr(request, "param", []):
        page.add_init_script(script)
    reader = Reader(page, address)
    reader.go()
    yield reader
    page.close()
    assert not troubles


def test_a_quiz_is_played_by_pointer_and_by_keyboard(reader):
    wrong, summary = reader.answer(1, right=False)
    summary.click()
    assert wrong.evaluate("fold => fold.open") and wrong.locator(".verdict").inner_text() == "No, your first answer"
    right, summary = reader.answer(1, right=True)
    summary.press("Enter")
    assert right.evaluate("fold => fold.open") and right.locator(".verdict").inner_text() == "Right"
    right, summary = reader.answer(2, right=True)
    summary.press("Space")
    assert right.locator(".verdict").inner_text() == "Right, your first answer"
    score = "2 of 4 questions answered, 1 right at the first try."
    assert reader.score() == score
    assert reader.page.locator("#quiz [role=status]").inner_text() == f"Right. {score}"
    assert reader.progress() == "2 of 4 questions answered"
    for rules in (WCAG, CONTRAST):
        found = Axe().run(reader.page, context="#quiz", options=rules).response
        assert found["passes"] and not found["violations"]
        reader.page.emulate_media(color_scheme="dark")
        reader.page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    for question in (3, 4):
        reader.answer(question, right=True)[1].click()
    assert reader.score() == "3 of 4 right at the first try." and reader.progress() == "quiz 3 of 4"

    reader.page.reload()
    wake(reader.page)
    assert reader.score() == "3 of 4 right at the first try." and reader.progress() == "quiz 3 of 4"
    verdicts = reader.page.locator(".verdict").all_inner_texts()
    assert verdicts == ["No, your first answer", *["Right, your first answer"] * 3]
    reader.page.get_by_role("button", name="Try again").press("Enter")
    assert not reader.page.locator(".verdict, .quiz-score:visible, #quiz details[open]").count()
    assert reader.progress() is None
    assert reader.page.evaluate("document.activeElement === document.querySelector('#quiz summary')")


def test_opening_a_solution_or_pressing_the_button_is_trying(reader):
    buttons = reader.page.locator("#exercises .tried")
    assert buttons.all_inner_texts() == ["Mark as tried"] * reader.page.locator("#exercises > section").count()
    buttons.nth(0).press("Enter")
    reader.page.locator("#exercises summary", has_text="Solution").nth(1).click()
    reader.page.locator("#exercises summary", has_text="Hint").nth(2).click()
    assert [button.get_attribute("aria-pressed") for button in buttons.all()[:3]] == ["true", "true", "false"]
    assert reader.progress() == "2 exercises tried"
    buttons.nth(0).click()
    reader.page.reload()
    wake(reader.page)
    assert reader.progress() == "1 exercise tried" and buttons.all_inner_texts()[:2] == ["Mark as tried", "Tried"]


def test_a_section_that_was_in_view_for_a_while_counts_as_read(reader):
    page = reader.page
    page.clock.install()
    reader.go()
    sections = [
        id for id in page.locator("article h1 ~ section").evaluate_all("all => all.map((section) => section.id)")
        if id not in ("exercises", "quiz", "further-reading")
    ]  # fmt: skip
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.clock.run_for(2000)
    assert reader.progress() is None, "who only passes has not read"
    for section in sections:
        page.evaluate("(id) => document.getElementById(id).scrollIntoView()", section)
        page.wait_for_function(
            """(id) => new Promise((seen) => new IntersectionObserver(([{ isIntersecting }]) => seen(isIntersecting))
                .observe(document.getElementById(id)))""",
            arg=section,
        )
        page.clock.run_for(16000)
    assert reader.progress() == "read"
    reader.go(HOW_TO_READ)
    assert reader.remembered() == ["This browser remembers:", "Chapter 2: read", "Clear"]


def test_all_of_it_can_be_cleared(reader):
    reader.answer(1, right=True)[1].click()
    reader.page.evaluate("localStorage.setItem('compress-lib guess pruning.threshold', '3')")
    reader.page.evaluate("localStorage.setItem('theme', 'light')")
    reader.go(HOW_TO_READ)
    assert "Chapter 2: 1 of 4 questions answered" in reader.remembered() and "Explorers: 1 guess" in reader.remembered()
    assert reader.progress()
    rings = reader.page.get_by_role("link", name="What the rings mean")
    assert rings.evaluate("(a) => a.href").endswith(f"{HOW_TO_READ}#remembered")
    clear = reader.page.get_by_role("button", name="Clear")
    reader.page.once("dialog", lambda dialog: dialog.dismiss())
    clear.press("Enter")
    assert reader.progress() and "Explorers: 1 guess" in reader.remembered()
    reader.page.once("dialog", lambda dialog: dialog.accept())
    clear.press("Enter")
    assert not rings.count()
    assert reader.remembered() == ["This browser remembers nothing of your reading."]
    assert reader.page.evaluate("document.activeElement.role") == "status" and reader.progress() is None
    left = reader.page.evaluate("Object.keys(localStorage)")
    assert "theme" in left and not [key for key in left if key.startswith("compress-lib")]
    reader.go()
    assert not reader.page.locator(".verdict").count()


def test_printing_answers_nothing(reader):
    reader.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert reader.page.locator("#quiz details:not([open])").count() == 0
    reader.page.emulate_media(media="print")
    assert not reader.page.locator("article .quiet-button:visible").count()
    reader.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert reader.progress() is None and not reader.page.locator(".verdict").count()


NO_STORAGE = """for (const name of ["localStorage", "sessionStorage"]) {
    const get = () => { throw new DOMException("storage is off", "SecurityError"); };
    Object.defineProperty(window, name, { configurable: true, get });
}"""
FULL = """const { setItem } = Storage.prototype;
Storage.prototype.setItem = function (key, value) {
    if (key.startsWith("compress-lib")) throw new DOMException("full", "QuotaExceededError");
    setItem.call(this, key, value);
};"""


@pytest.mark.parametrize("reader", [[NO_STORAGE]], indirect=True)
def test_where_storage_is_off_the_quiz_works_and_nothing_is_kept(reader):
    reader.answer(1, right=True)[1].click()
    assert reader.score() == "1 of 4 questions answered, 1 right at the first try."
    reader.go(HOW_TO_READ)
    assert reader.remembered()[0].startswith("Your browser stores nothing for this book") and reader.progress() is None


@pytest.mark.parametrize("reader", [[FULL]], indirect=True)
def test_where_storage_is_full_the_quiz_works_too(reader):
    for question in (1, 2):
        reader.answer(question, right=True)[1].click()
    assert reader.score() == "2 of 4 questions answered, 2 right at the first try."
    assert reader.progress() == "2 of 4 questions answered"


EMPTY = {"read": [], "sections": 0, "answers": {}, "questions": 0, "tried": [], "exercises": 0}
GONE = {"read": ["gone"], "tried": ["exercise-2-99"], "answers": {"question-2-9": {"choice": 0, "right": True}}}
DAMAGED = ["no JSON", "[3]", '{"02": {"read": "all"}}']


def test_what_is_damaged_or_gone_counts_as_nothing(reader):
    def store(text, path):
        reader.page.evaluate("([key, text]) => localStorage.setItem(key, text)", [KEY, text])
        reader.go(path)

    for text in DAMAGED:
        store(text, HOW_TO_READ)
        assert reader.remembered() == ["This browser remembers nothing of your reading."], text
    store(json.dumps({"02": EMPTY | GONE}), CHAPTER)
    assert reader.progress() is None
    reader.answer(2, right=True)[1].click()
    assert reader.score() == "1 of 4 questions answered, 1 right at the first try."


def test_without_scripts_the_answers_unfold(browser, address):
    page = browser.new_page(java_script_enabled=False)
    page.goto(f"{address}/{CHAPTER}")
    lay_out(page)
    answer = page.locator("#quiz details").first
    assert not answer.locator("p").is_visible()
    answer.locator("summary").click()
    assert answer.locator("p").is_visible()
    page.goto(f"{address}/{HOW_TO_READ}")
    lay_out(page)
    assert page.locator("#remembered").inner_text() == "Without scripts, nothing is remembered."
    page.close()
