"""``try --page`` in a real browser: asked, streamed, steered, forked and compared; and closed to everyone else.

Needs Debian's ``chromium`` and ``chromium-driver``.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from jobs.evaluate.attempts.attempt import Settings
from jobs.evaluate.attempts.log import Log
from jobs.evaluate.attempts.page import serve
from jobs.evaluate.attempts.session import Session
from jobs.evaluate.engines.protocol import Sampling
from tests.evaluate.attempts.test_session import PROMPTER
from tests.evaluate.scripted import Script, ScriptedEngine
from tests.test_report_page import browser

__all__ = ["browser"]

HOSTILE = "<img src=x onerror=alert(1)><script>document.title='owned'</script>"


@dataclass
class Page:
    address: str
    session: Session
    kept: Path

    @property
    def token(self) -> str:
        return self.address.rpartition("=")[2]

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(self.address).port or 0, timeout=10)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page on a scripted model, served from a thread."""
    kept = tmp_path_factory.mktemp("page") / "kept.jsonl"
    said: queue.Queue[str] = queue.Queue()
    loop = asyncio.new_event_loop()
    session = Session(PROMPTER, ScriptedEngine(Script(3, 0), delay=0.002), 700, 12, f"model {HOSTILE}")
    serving = loop.create_task(serve(session, Settings(Sampling()), Log(kept, "m"), 0, said.put))

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.gather(serving, return_exceptions=True))

    thread = threading.Thread(target=run)
    thread.start()
    yield Page(said.get(timeout=30), session, kept)
    loop.call_soon_threadsafe(serving.cancel)
    thread.join(30)
    assert not thread.is_alive()


def wait(shown: webdriver.Chrome, script: str) -> Any:
    return WebDriverWait(shown, 30, poll_frequency=0.05).until(lambda each: each.execute_script(f"return {script}"))


def test_it_is_asked_streams_and_draws_what_was_tried(browser: webdriver.Chrome, page: Page) -> None:
    browser.get_log("browser")
    browser.get(page.address)
    wait(browser, "document.getElementById('model').textContent.startsWith('model ')")
    assert browser.title == "Try a model"
    browser.find_element(By.ID, "question").send_keys(f"How many? {HOSTILE}")
    browser.find_element(By.CSS_SELECTOR, "#ask button").click()
    growing = [wait(browser, "attempts.get(1)?.running && attempts.get(1).thinking_tokens") for _ in range(4)]
    assert growing == sorted(growing)
    wait(browser, "attempts.get(1)?.finished")
    browser.execute_script("choose(1, 30)")
    browser.find_element(By.CSS_SELECTOR, "[data-text=Wait]").click()
    wait(browser, "attempts.get(2)?.finished")
    first = page.session.attempts[0]
    browser.execute_script("choose(1, 5)")
    assert "after token 5 of" in browser.find_element(By.ID, "place").text
    browser.find_element(By.ID, "text").send_keys(HOSTILE)
    browser.find_element(By.ID, "append").click()
    wait(browser, "attempts.get(3)?.finished")
    browser.execute_script("choose(1, 7)")
    browser.find_element(By.CSS_SELECTOR, "[data-do=cut]").click()
    wait(browser, "attempts.get(4)?.finished")
    forked = page.session.attempts[2]
    assert (forked.shared, forked.appended[0].text) == (5, HOSTILE)
    assert page.session.attempts[3].leaf.thinking_tokens == 7
    assert len(browser.find_elements(By.CSS_SELECTOR, "#tree .line")) == 4
    assert len(browser.find_elements(By.CSS_SELECTOR, "#tree .fork")) == 3
    assert len(browser.find_elements(By.CSS_SELECTOR, "#rows tr")) == 4
    shown = browser.execute_script("choose(1); return document.getElementById('transcript').textContent")
    assert first.text_before(None) in shown
    assert browser.execute_script("return document.querySelectorAll('img, #transcript script').length") == 0
    assert browser.title == "Try a model"
    assert browser.get_log("browser") == []
    browser.find_element(By.ID, "budget").clear()
    browser.find_element(By.ID, "budget").send_keys("none")
    browser.find_element(By.CSS_SELECTOR, "#ask button").click()
    wait(browser, "!document.getElementById('error').hidden")
    assert "budget: none is not a whole number" in browser.find_element(By.ID, "error").text
    browser.get(page.address)  # what was tried is still there
    wait(browser, "attempts.size === 4 && document.querySelectorAll('#tree .line').length === 4")
    kept = [json.loads(line) for line in page.kept.read_text().splitlines()]
    assert [line["number"] for line in kept] == [1, 2, 3, 4]


def test_nobody_reads_or_steers_without_the_token(page: Page) -> None:
    order = {"do": "ask", "text": "Why?"}
    attempts = len(page.session.attempts)
    for path in ("/", "/?token=", f"/?token={page.token[:-1]}", "/events", "/events?token=x"):
        assert page.request("GET", path)[0] == 403
    for headers in ({}, {"Authorization": "Bearer x"}, {"Cookie": f"token={page.token}"}):
        assert page.request("POST", "/orders", order, **headers)[0] == 403
    right = {"Authorization": f"Bearer {page.token}"}
    assert page.request("POST", "/orders", order, **right, Host="evil.example")[0] == 400  # a name that leads here
    assert page.request("GET", f"/?token={page.token}", Host="evil.example:80")[0] == 400
    assert page.request("GET", "/orders")[0] == 405
    assert page.request("POST", "/orders", {"do": "delete"}, **right)[0] == 400
    assert page.request("POST", "/orders", {"do": "cut", "parent": 999}, **right)[0] == 400
    assert page.request("POST", "/orders", {**order, "text": "x" * (2 << 20)}, **right)[0] == 413
    assert len(page.session.attempts) == attempts


def test_the_page_may_run_its_own_script_and_nothing_else(page: Page) -> None:
    status, body, headers = page.request("GET", f"/?token={page.token}")
    assert status == 200
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert page.token.encode() not in body
    source = page.request("GET", "/page.js")[1].decode()
    assert not any(
        sink in source for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
    )
