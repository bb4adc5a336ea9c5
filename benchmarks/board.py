"""What a board of many sweeps takes: to write it, to bring it up to date, and to open it in a browser.

    PYTHONPATH=. python benchmarks/board.py [--sweeps 500] [--items 500] [--json FILE] [--page FOLDER]

Half of the sweeps are written to the board first, then all, then all once more: the first tells what a sweep costs, the
second what it costs to add some, the third what there is to pay where nothing changed. Needs chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from orchestrator.board import write
from orchestrator.store.records import read_record, write_json_atomically, write_record
from tests.browser import chromium
from tests.evaluate.board.stores import SHAPE, add
from tests.evaluate.simulated import simulate

TASKS = ("aime24", "math500", "gpqa_diamond", "letters")
MADE = 8
"""Sweeps that are really different; the others are copies of them under names of their own."""


def fill(store: Path, sweeps: int, items: int, made: int) -> None:
    """Sees that the store has so many sweeps, of which it has `made`."""
    draw = random.Random(made)
    for number in range(made, min(sweeps, MADE)):
        shape = {
            policy: (min(1.0, accuracy * draw.uniform(0.6, 1.3)), size) for policy, (accuracy, size) in SHAPE.items()
        }
        task = TASKS[number % len(TASKS)]
        frame = simulate(shape, items=items, task=task)
        add(store, f"sweep{number}", frame, model=f"org/model-{number}", tasks=[task])
    originals = sorted(store.glob("sweep*"))[:MADE]
    for number in range(max(made, MADE), sweeps):
        copy = store / f"copy{number}-{number:016x}"
        shutil.copytree(originals[number % MADE], copy)
        config = json.loads((copy / "config.json").read_text())
        write_json_atomically(copy / "config.json", config | {"model": f"org/model-{number % 40}"})
        write_record(copy / "done.json", read_record(copy / "done.json") | {"time": 1.79e9 + 3600 * number})


def opened(page: Path, profile: Path) -> tuple[float, float]:
    """Seconds until the board shows its rows in a browser that runs, and until a search has been answered."""
    with chromium(profile) as browser:
        browser.get("about:blank")
        began = time.perf_counter()
        browser.get(page.absolute().as_uri())
        WebDriverWait(browser, 60, 0.02).until(lambda shown: shown.find_elements(By.CSS_SELECTOR, "#rows tr"))
        until = time.perf_counter() - began
        search = (
            "const began = performance.now(); document.getElementById('search').value = 'model-7 wait'; board.filter();"
            "return performance.now() - began;"
        )
        return until, browser.execute_script(search) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=500)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="also keep the board here")
    arguments = parser.parse_args()
    figures: dict[str, float] = {"sweeps": arguments.sweeps, "items": arguments.items}
    with tempfile.TemporaryDirectory(prefix="board") as temporary:
        store, folder = Path(temporary) / "runs", Path(temporary) / "board"
        made = 0
        for name, sweeps in (("half", arguments.sweeps // 2), ("all", arguments.sweeps), ("again", arguments.sweeps)):
            fill(store, sweeps, arguments.items, made)
            made = sweeps
            began = time.perf_counter()
            write([str(store)], folder, "board", None)
            figures[f"{name}_seconds"] = time.perf_counter() - began
        figures["page_bytes"] = (folder / "index.html").stat().st_size
        figures["open_seconds"], figures["search_seconds"] = opened(folder / "index.html", Path(temporary) / "profile")
        if arguments.page is not None:
            shutil.copytree(folder, arguments.page)
    more = arguments.sweeps - arguments.sweeps // 2
    table = Table("", "measured", title=f"A board of {arguments.sweeps} sweeps, {arguments.items} items each")
    table.add_row(
        f"written with {arguments.sweeps // 2} sweeps, none of them known", f"{figures['half_seconds']:.1f} s"
    )
    table.add_row(f"with the other {more} as well", f"{figures['all_seconds']:.1f} s")
    table.add_row("once more, nothing new", f"{figures['again_seconds']:.2f} s")
    table.add_row("page", f"{figures['page_bytes'] / 1e6:.2f} MB")
    table.add_row("opened in a browser, rows shown", f"{figures['open_seconds']:.2f} s")
    table.add_row("search over all points", f"{1000 * figures['search_seconds']:.0f} ms")
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
