"""What a reader of the board sees, in a real browser: sorted, filtered, searched, and each row's report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from orchestrator.board import write
from tests.browser import DESKTOP, PHONE, asked, chromium, look, sideways
from tests.evaluate.board.stores import SHAPE, add, report_on
from tests.evaluate.report.sweep import HOSTILE
from tests.evaluate.simulated import simulate


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store, folder = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("board")
    better = {policy: (min(1.0, accuracy + 0.3), tokens) for policy, (accuracy, tokens) in SHAPE.items()}
    base = add(store, "base", model=f"org/{HOSTILE[1]}", finished=1.79e9)
    add(store, "tuned", simulate(better, items=40), model="org/tuned", finished=1.80e9)
    maths = simulate(SHAPE, items=30, samples=4, task="math500")
    add(store, "maths", maths, tasks=["math500"], samples=4, temperature=1.0, model="org/tuned")
    report_on(store, "mine-1", base, content="<title>the report of base</title>")
    write([str(store)], folder, "python -m orchestrator board runs", "base")
    return folder / "index.html"


def opened(browser: webdriver.Chrome, page: Path, width: int = DESKTOP, scheme: str = "light") -> None:
    look(browser, page.as_uri(), width, scheme)
    WebDriverWait(browser, 30).until(lambda shown: shown.find_elements(By.CSS_SELECTOR, "#rows tr"))


def column(browser: webdriver.Chrome, title: str) -> list[str]:
    script = (
        "const titles = [...document.querySelectorAll('#columns th')];"
        "const at = titles.findIndex((each) => each.textContent === arguments[0]);"
        "return [...document.querySelectorAll('#rows tr')].map((row) => row.children[at].textContent);"
    )
    texts: list[str] = browser.execute_script(script, title)
    return texts


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_it_opens_without_errors_requests_or_sideways_scrolling(
    browser: webdriver.Chrome,
    page: Path,
    width: int,
    scheme: str,
) -> None:
    opened(browser, page, width, scheme)
    assert browser.get_log("browser") == []
    assert asked(browser) == [page.as_uri()]
    assert sideways(browser) <= 0
    assert browser.execute_script("return window.broken") is None
    assert f"org/{HOSTILE[1]}" in column(browser, "model"), "shown as text"


def test_rows_are_sorted_filtered_and_searched(browser: webdriver.Chrome, page: Path) -> None:
    opened(browser, page)
    shares = [float(each.partition("%")[0]) for each in column(browser, "accuracy")]
    assert shares == sorted(shares, reverse=True)
    count = len(shares)
    browser.find_element(By.XPATH, "//th/button[text()='thinking tokens']").click()
    tokens = [float(each.split()[0]) for each in column(browser, "thinking tokens")]
    assert tokens == sorted(tokens, reverse=True)
    browser.find_element(By.XPATH, "//th/button[text()='thinking tokens']").click()
    assert [float(each.split()[0]) for each in column(browser, "thinking tokens")] == sorted(tokens)
    Select(browser.find_element(By.ID, "task")).select_by_visible_text("letters")
    assert set(column(browser, "task")) == {"letters"}
    Select(browser.find_element(By.ID, "verdict")).select_by_visible_text("better")
    found = column(browser, "against the reference")
    assert found
    assert all(each.startswith("better +") for each in found)
    opened(browser, page)
    browser.find_element(By.ID, "search").send_keys("tuned majority@")
    assert {each.partition("@")[0] for each in column(browser, "policy")} == {"auto majority"}
    assert f"of {count} points, of 1 sweeps" in browser.find_element(By.ID, "matches").text


def test_the_reference_is_marked_and_other_tasks_are_not_compared(browser: webdriver.Chrome, page: Path) -> None:
    opened(browser, page)
    rows = list(zip(*(column(browser, name) for name in ("task", "policy", "against the reference")), strict=True))
    assert [row for row in rows if row[2] == "the reference"] == [("letters", "auto", "the reference")]
    assert {row[2] for row in rows if row[0] == "math500"} == {"–"}


def test_a_row_opens_its_report(browser: webdriver.Chrome, page: Path) -> None:
    opened(browser, page)
    links = browser.find_elements(By.CSS_SELECTOR, "#rows a")
    assert {each.text.partition("-")[0] for each in links} == {"base"}
    browser.execute_script("arguments[0].click()", links[0])
    WebDriverWait(browser, 10).until(lambda shown: shown.title == "the report of base")
