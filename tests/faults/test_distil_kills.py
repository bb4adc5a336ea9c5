"""A distil step that is killed again and again asks its teacher for nothing that it has.

An answer that was on its way when the step was killed cannot be known: it is asked for again. That is the bound, and it
is exact: all that a killed attempt asked is on disk, but for at most as many requests as are made at once, and what is
on disk is never asked for again.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from jobs.evaluate.chat.replies import Replies
from tests.conftest import ROOT
from tests.distil.test_distil import asked, config, distil, told
from tests.evaluate.chat.chat_server import Body, ChatServer, Reply

KILLS, AT_ONCE, SAMPLES = 20, 4, 2
ROWS = [{"id": f"q{n}", "question": f"Ask {n}", "answer": "2", "type": "integer"} for n in range(60)]
SERVER = {"requests": AT_ONCE}
WANTED = SAMPLES * len(ROWS)
RESUME = """
import json, sys
from pathlib import Path
from tests.distil.test_distil import config, context_of
from jobs.distil.run import run
rows = json.loads(sys.argv[2])
run(config(sys.argv[1], {"requests": 4}, samples=2), context_of(Path(sys.argv[3]), rows))
"""


def script(body: Body) -> Reply:
    """It thinks for a while, so that kills come while questions are thought about, as they do."""
    time.sleep(0.03)
    return told(f"hm {hashlib.sha256(asked(body).encode()).hexdigest()[:4]}", "Answer: 2")


def on_disk(store: Path) -> Counter[str]:
    """Answers by question."""
    folders = [folder for folder in (store / "traces").glob("*") if folder.is_dir()]
    by_item = Counter(one.item for folder in folders for one in Replies(folder, report=print)._known)
    return Counter({f"Ask {key.partition(':')[0].removeprefix('q')}": count for key, count in by_item.items()})


def test_after_twenty_kills_no_answer_that_was_kept_is_asked_for_again_and_the_dataset_is_the_same(
    tmp_path: Path,
) -> None:
    server, rng = ChatServer(script), random.Random(0)
    lost = []
    """Of each attempt: what it asked for, and did not live to keep."""
    with server.serving() as url:
        command = [sys.executable, "-c", RESUME, url, json.dumps(ROWS), str(tmp_path)]
        for kill in range(KILLS):
            before, seen = on_disk(tmp_path), len(server.bodies)
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            more = rng.randint(1, 8)
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if kill < KILLS - 4 and len(server.bodies) >= seen + more:
                    break
                if on_disk(tmp_path).total() == WANTED:  # the last ones come while rows are made
                    time.sleep(rng.uniform(0, 1))
                    break
                time.sleep(0.005)
            process.kill()
            assert process.wait() in (-9, 0)
            time.sleep(0.3)  # what is on its way to the server arrives
            kept, now = on_disk(tmp_path), Counter(map(asked, server.bodies[seen:]))
            assert all(before[name] + count <= SAMPLES for name, count in now.items()), "it was on disk"
            lost.append(now.total() - (kept.total() - before.total()))
            assert 0 <= lost[-1] <= AT_ONCE, "more is lost than was under way"
        assert on_disk(tmp_path).total() == WANTED, "the last kills came too early"
        rows, gone = distil(config(url, SERVER, samples=SAMPLES), tmp_path, rows=ROWS)
        requests = len(server.bodies)
        distil(config(url, SERVER, samples=SAMPLES), tmp_path / "unkilled", rows=ROWS)
    print(f"{KILLS} kills: {requests} requests for {WANTED} answers; under way when killed: {lost}")
    assert requests == WANTED + sum(lost)
    assert Counter(row["id"] for row in rows) == Counter({row["id"]: SAMPLES for row in ROWS})
    assert gone == []
    for name in ("train.jsonl", "test.jsonl", "dropped.jsonl", "README.md", "funnel.json"):
        killed, whole = ((store / "step" / "output" / name).read_bytes() for store in (tmp_path, tmp_path / "unkilled"))
        assert killed == whole, name
