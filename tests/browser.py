"""A real browser, for tests of pages. Needs Debian's ``chromium`` and ``chromium-driver``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

DESKTOP, PHONE = 1280, 390


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """It runs as long as the block does, and keeps its files in the folder `profile`."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    browser.set_page_load_timeout(60)
    try:
        yield browser
    finally:
        browser.quit()


def look(browser: webdriver.Chrome, address: str, width: int = DESKTOP, scheme: str = "light") -> None:
    """Opens a page on a screen of that width, with nothing in the browser's logs of what was before."""
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(address)


def asked(browser: webdriver.Chrome) -> list[str]:
    """The addresses that were asked for since."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]


def sideways(browser: webdriver.Chrome) -> int:
    """Pixels by which the page is wider than the screen."""
    widths = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(browser.execute_script(widths))
