"""What a reader sees: a real MLflow server, a real browser, and the page of an experiment as it opens.

Needs Debian's ``chromium`` and ``chromium-driver``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.publish import publish
from orchestrator.tracking.tracker import Tracker
from tests.evaluate.simulated import CONFIG, CURVES, context, simulate
from tests.orchestrator.tracking.tracking_server import free_port, tracking_server

DESKTOP = (1920, 1200)

LINEAGE = {
    "location": "/runs/tiny-00ff00ff00ff00ff/output",
    "model": "Qwen/Qwen2.5-32B-Instruct",
    "data_fingerprint": "c0ffee",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep and a training run, in MLflow."""
    folder = tmp_path_factory.mktemp("page")
    simulate().to_parquet(folder / "samples.parquet")
    step = context(folder)
    publish(EvaluateConfig.model_validate_json(CONFIG), step, folder / "samples.parquet", {"seconds": 31.0})
    training = context(folder, "tiny", "00ff00ff00ff00ff")
    losses = training.track("tiny", {"learning_rate": 1e-3}, group="training")
    for number in range(100):
        losses.metrics({"loss": 3 / (number + 1)}, step=number)
    losses.made_model("tiny", "finetuned", LINEAGE)
    here = Path.cwd()
    os.chdir(folder)  # artifacts of a SQLite store go to ./mlruns
    try:
        for each in (step, training):
            tracker(folder).sync(each.folder, each.name, each.fingerprint, "FINISHED")
    finally:
        os.chdir(here)
    return folder


def tracker(folder: Path) -> Tracker:
    return Tracker(f"sqlite:///{folder}/mlflow.db", "scaling-sweep")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with tracking_server(folder, free_port()) as url:
        yield url


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={DESKTOP[0]},{DESKTOP[1]}",
    ):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    browser.set_page_load_timeout(60)
    try:
        yield browser
    finally:
        browser.quit()


def chart(browser: webdriver.Chrome, title: str) -> WebElement:
    """The card of the chart with that title, once its lines are drawn."""
    card = f"//*[normalize-space(text())='{title}']/ancestor::*[.//*[contains(@class, 'js-plotly-plot')]][1]"

    def drawn(browser: webdriver.Chrome) -> WebElement | bool:
        try:
            found = browser.find_element(By.XPATH, card)
            return found if found.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace path.js-line") else False
        except (NoSuchElementException, StaleElementReferenceException):
            return False

    found = WebDriverWait(browser, 90).until(drawn)
    assert isinstance(found, WebElement)
    return found


PLOTTED = """
const plot = arguments[0].querySelector('.js-plotly-plot');
return plot.data.map(trace => ({name: trace.name, x: Array.from(trace.x), y: Array.from(trace.y)}));
"""


def test_the_experiments_page_opens_as_overlaid_curves_of_accuracy_over_thinking_tokens(
    folder: Path, server: str, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    browser.get(tracker(folder).page(server))
    card = chart(browser, "accuracy")
    browser.save_screenshot(str(tmp_path / "page.png"))
    check_curves(browser, card)
    assert card.size["width"] > DESKTOP[0] / 3, "the chart is large"


def test_mlflows_own_chart_view_opens_with_the_same_curves(
    folder: Path, server: str, browser: webdriver.Chrome
) -> None:
    browser.get(tracker(folder).page(server).partition("&viewStateShareKey")[0])
    check_curves(browser, chart(browser, "accuracy"))


def test_the_page_of_a_trained_model_tells_what_it_came_from_and_leads_to_its_run(
    folder: Path, server: str, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    training = client.get_experiment_by_name("scaling-sweep · training")
    (model,) = client.search_logged_models([training.experiment_id])
    browser.get(f"{server}/#/experiments/{training.experiment_id}/models/{model.model_id}")

    def told(browser: webdriver.Chrome) -> bool:
        text = browser.find_element(By.TAG_NAME, "body").text
        return all(value in text for value in (*LINEAGE.values(), "00ff00ff00ff00ff"))

    WebDriverWait(browser, 90, ignored_exceptions=[StaleElementReferenceException]).until(told)
    browser.save_screenshot(str(tmp_path / "model.png"))
    links = [link.get_attribute("href") or "" for link in browser.find_elements(By.TAG_NAME, "a")]
    assert any(link.endswith(f"/runs/{model.source_run_id}") for link in links), links


def check_curves(browser: webdriver.Chrome, card: WebElement) -> None:
    lines = {trace["name"]: trace for trace in browser.execute_script(PLOTTED, card) if trace["x"]}
    assert {name.split(" (")[0] for name in lines} == {f"sweep · {curve}" for curve in CURVES}
    wait = next(trace for name, trace in lines.items() if name.startswith("sweep · Wait"))
    assert wait["x"] == [13, 34, 55, 92]
    assert wait["y"] == [0.47, 0.955, 0.9, 0.56]

    assert 0 <= card.location["y"] < DESKTOP[1] - card.size["height"], "the curves are in sight without scrolling"
    text = browser.find_element(By.TAG_NAME, "body").text
    for curve in CURVES:
        assert f"sweep · {curve}" in text
    assert "loss" not in text, "training has a page of its own"
