"""What somebody who follows a run sees, in a real browser: the page changes by itself, and says when it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from orchestrator.live.page import render
from orchestrator.live.server import served
from orchestrator.plan import plan
from tests.browser import DESKTOP, PHONE, asked, chromium, look, sideways
from tests.orchestrator.live.running import running, train


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def test_it_refreshes_by_itself_and_asks_for_nothing_else(browser: webdriver.Chrome, tmp_path: Path) -> None:
    with running(tmp_path) as watch:
        with served(render(watch.look()), lambda: render(watch.look())) as (address, refresh):
            for width in (PHONE, DESKTOP):
                look(browser, address, width)
                assert "step 30" in browser.find_element(By.ID, "live").text
                assert sideways(browser) <= 0
            browser.execute_script("window.same = true")
            step = plan(watch.experiment, watch.store)[1]
            context = step.context(watch.experiment, watch.store)
            context.progress(60, 120, "steps")
            train(context, range(31, 61))
            refresh()
            WebDriverWait(browser, 20).until(lambda shown: "step 60" in shown.find_element(By.ID, "live").text)
            assert "60/120 steps" in browser.find_element(By.ID, "live").text
            assert browser.execute_script("return window.same"), "without being loaded again"
            assert browser.execute_script("return window.broken") is None
            icon = f"{address.partition('?')[0]}favicon.ico"
            assert set(asked(browser)) - {icon} == {address}
            assert browser.get_log("browser") == []
        WebDriverWait(browser, 20).until(lambda shown: shown.find_element(By.ID, "lost").is_displayed())
