"""What a reader of a report sees: the page of a hostile sweep in a real browser, wide and narrow, light and dark.

Needs Debian's ``chromium`` and ``chromium-driver``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from jobs.evaluate import report
from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.reporting import write_reports
from orchestrator.store.step_folders import Store
from tests.browser import DESKTOP, PHONE, chromium, look
from tests.distil.finished import finish
from tests.evaluate.report.sweep import HOSTILE, hostile, request


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    # Room for some of the traces, not for all.
    report.write([hostile(tmp_path_factory.mktemp("sweep"))], request(folder, megabytes=0.005, items=("it's",)))
    return folder / "report.html"


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = finish(tmp_path_factory.mktemp("distilled"))
    experiment, store = load(folder / "sums.yaml"), Store(folder / "runs")
    (page,) = write_reports(experiment, store, plan(experiment, store), "report")
    return Path(str(page))


def opened(browser: webdriver.Chrome, page: Path, width: int = DESKTOP, scheme: str = "light") -> webdriver.Chrome:
    """The browser, once the page has shown its first sample."""
    look(browser, page.as_uri(), width, scheme)
    WebDriverWait(browser, 30).until(lambda shown: shown.find_elements(By.CSS_SELECTOR, "#sample h3"))
    return browser


def units(browser: webdriver.Chrome) -> list[str]:
    """The samples that are listed."""
    return [each.text.partition("\n")[0] for each in browser.find_elements(By.CSS_SELECTOR, "#units button")]


def show(browser: webdriver.Chrome, name: str) -> str:
    """Opens a sample by its place in the list; returns what is then said of it."""
    button = next(each for each in browser.find_elements(By.CSS_SELECTOR, "#units button") if name in each.text)
    browser.execute_script("arguments[0].click()", button)
    heading = f"return document.querySelector('#sample h3')?.textContent.includes({json.dumps(name.split(' · ')[0])})"
    WebDriverWait(browser, 30).until(lambda shown: shown.execute_script(heading))
    return browser.find_element(By.ID, "sample").text


def chosen(browser: webdriver.Chrome, name: str) -> int:
    """Filters; returns the count that the filter says."""
    box = browser.find_element(By.CSS_SELECTOR, f"#filter input[value={name}]")
    browser.execute_script("arguments[0].click()", box)
    label = browser.find_element(By.CSS_SELECTOR, ".chip:has(:checked)").text
    return int(label.rpartition("· ")[2])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_it_opens_without_errors_requests_or_sideways_scrolling(
    browser: webdriver.Chrome, page: Path, width: int, scheme: str
) -> None:
    opened(browser, page, width, scheme)
    assert browser.get_log("browser") == []
    asked = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if json.loads(entry["message"])["message"]["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [page.as_uri()]
    for name in units(browser):
        show(browser, name)
        widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        needed, there = browser.execute_script(widths)
        assert needed <= there, f"{name} at {width} pixels"
    for figure in browser.find_elements(By.CSS_SELECTOR, "figure:has(svg.chart)"):
        drawn = figure.find_elements(By.CSS_SELECTOR, "svg.chart")
        assert [chart.is_displayed() for chart in drawn].count(True) == 1, "each chart once, drawn for this width"
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    red = int(paper.removeprefix("rgb(").partition(",")[0])
    assert red < 64 if scheme == "dark" else red > 192


def test_the_filter_shows_what_turned_between_two_policies(browser: webdriver.Chrome, page: Path) -> None:
    opened(browser, page)
    index = browser.execute_script("return viewer.index")
    before, after = Select(browser.find_element(By.ID, "before")), Select(browser.find_element(By.ID, "after"))
    assert [option.text for option in before.options] == index["policies"]
    turned = 0
    for first, second in (("4", "auto"), ("auto", '2x"Wait"'), ('1x""', "16")):
        before.select_by_visible_text(first)
        after.select_by_visible_text(second)
        expected = flips(index, first, second)
        for name, found in expected.items():
            assert chosen(browser, name) == len(found)
            assert units(browser) == found
        turned += len(expected["won"]) + len(expected["lost"])
    assert turned, "the policies differ on some samples"
    assert chosen(browser, "all") == len(index["units"])


def flips(index: dict[str, Any], before: str, after: str) -> dict[str, list[str]]:
    """The samples that each filter should list."""
    size = len(index["policies"])
    found: dict[str, list[str]] = {name: [] for name in ("won", "lost", "both", "neither")}
    for number, (item, sample) in enumerate(index["units"]):
        row = index["verdicts"][number * size : (number + 1) * size]
        right = tuple(row[index["policies"].index(name)] == "c" for name in (before, after))
        kind = {(False, True): "won", (True, False): "lost", (True, True): "both", (False, False): "neither"}[right]
        found[kind].append(f"{index['items'][item]} · {sample}")
    return found


def test_a_sample_shows_its_branches_cuts_answers_and_verdicts(browser: webdriver.Chrome, page: Path) -> None:
    opened(browser, page)
    said = show(browser, "it's · 0")
    for text in ("What is 1+2?", "Right answer: 3", "injected at the natural end", "✂ 4", "cut by the budget at 4"):
        assert text in said
    assert "Wait" in [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#sample .injected")]
    folded = browser.find_elements(By.CSS_SELECTOR, "#sample details.branch:not([open])")
    assert folded, "branches that neither policy walks are folded"
    for branch in folded:
        assert not branch.find_elements(By.CSS_SELECTOR, ".policy.chosen")
    for branch in browser.find_elements(By.CSS_SELECTOR, "#sample details.branch[open]"):
        assert branch.find_elements(By.CSS_SELECTOR, ".policy.chosen")
    rows = browser.find_elements(By.CSS_SELECTOR, "#sample table tbody tr")
    assert len(rows) == len(browser.execute_script("return viewer.index.policies"))


def test_a_sample_without_traces_says_which_command_has_them(browser: webdriver.Chrome, page: Path) -> None:
    opened(browser, page)
    said = show(browser, "<i>two</i> · 1")
    assert "not in this page" in said
    assert "report sums.yaml --item '<i>two</i>'" in said


def test_what_a_model_wrote_is_shown_and_does_nothing(browser: webdriver.Chrome, page: Path) -> None:
    opened(browser, page)
    said = "".join(show(browser, name) for name in units(browser) if name.startswith("it's"))
    assert any(text[:20] in said for text in HOSTILE[:2])
    assert "U+202E" in said
    assert "\u202e" not in said
    assert browser.execute_script("return window.broken") is None
    assert browser.find_elements(By.CSS_SELECTOR, "#sample img, #sample b, #sample script") == []


def test_keys_walk_the_list_and_the_legend_hides_curves(browser: webdriver.Chrome, page: Path) -> None:
    opened(browser, page)
    first, second = browser.find_elements(By.CSS_SELECTOR, "#units button")[:2]
    first.send_keys(Keys.ARROW_DOWN)
    assert browser.switch_to.active_element == second
    assert second.get_attribute("aria-current") == "true"
    line = browser.find_element(By.CSS_SELECTOR, "svg.w1040 .line")
    button = browser.find_element(By.CSS_SELECTOR, ".legend button")
    button.send_keys(Keys.ENTER)
    assert not line.is_displayed()
    button.send_keys(Keys.ENTER)
    assert line.is_displayed()


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_the_page_on_distilled_rows_shows_some_of_each_fate_and_runs_nothing_of_theirs(
    browser: webdriver.Chrome, distilled: Path, width: int
) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(distilled.as_uri())
    assert browser.get_log("browser") == []
    assert len(browser.find_elements(By.CSS_SELECTOR, "#viewer article")) == 4
    widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth, window.broken ?? 0]"
    needed, there, broken = browser.execute_script(widths)
    assert needed <= there
    assert broken == 0
    Select(browser.find_element(By.ID, "fate")).select_by_visible_text("answers")
    shown = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#viewer article header")]
    assert [each.partition(" · ")[2].partition(" · ")[0] for each in shown] == ["answers: wrong"] * 2
    browser.find_element(By.ID, "search").send_keys("3 + 4")
    (article,) = browser.find_elements(By.CSS_SELECTOR, "#viewer article")
    assert "</script><script>window.broken = 1</script> 3 + 4?" in article.text
