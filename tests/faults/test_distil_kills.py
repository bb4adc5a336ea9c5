"""A distil step that is killed again and again asks its teacher for nothing that it has."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.conftest import ROOT
from tests.distil.test_distil import asked, config, distil, told
from tests.evaluate.chat.chat_server import Body, ChatServer, Reply

RESUME = """
import json, sys
from pathlib import Path
from tests.distil.test_distil import config, context_of
from jobs.distil.run import run
rows = json.loads(sys.argv[2])
run(config(sys.argv[1], {"requests": 4}, samples=2), context_of(Path(sys.argv[3]), rows))
"""


def test_after_twenty_kills_no_answer_that_was_given_is_asked_for_again(tmp_path: Path) -> None:
    """The script waits before each answer, so that kills come while questions are thought about, as they do."""
    rows = [{"id": f"q{n}", "question": f"Ask {n}", "answer": "2", "type": "integer"} for n in range(60)]
    given: Counter[str] = Counter()
    rng = random.Random(0)

    def script(body: Body) -> Reply:
        time.sleep(0.03)
        given[asked(body)] += 1
        return told(f"hm {hashlib.sha256(asked(body).encode()).hexdigest()[:4]}", "Answer: 2")

    server = ChatServer(script)
    with server.serving() as url:
        command = [sys.executable, "-c", RESUME, url, json.dumps(rows), str(tmp_path)]
        for _ in range(20):
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            before = len(server.bodies)
            deadline = time.monotonic() + 60
            wanted = before + rng.randint(1, 8)
            while len(server.bodies) < wanted and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            process.kill()
            process.wait()
        kept, gone = distil(config(url, {"requests": 4}, samples=2), tmp_path, rows=rows)
        first = {name: (tmp_path / "step" / "output" / name).read_bytes() for name in ("train.jsonl", "README.md")}
        distil(config(url, {"requests": 4}, samples=2), tmp_path, rows=rows, step="again")
    assert (len(kept), len(gone)) == (120, 0)
    # At most what was under way in each of the kills is asked for twice: four requests each.
    assert sum(given.values()) <= 120 + 20 * 4
    for name, content in first.items():
        assert (tmp_path / "again" / "output" / name).read_bytes() == content
