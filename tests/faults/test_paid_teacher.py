"""A teacher that charges, from the command line: ``max_cost`` stops the run before its server's account passes it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from orchestrator.spending import spent
from orchestrator.store.step_folders import StepFolder
from tests.distil.test_max_cost import ASKED, LIMIT, MOST, ROWS, SERVER, Cashier
from tests.evaluate.chat.chat_server import Body, ChatServer, Reply
from tests.orchestrator.workplace import Workplace, wait_for


def usd(workplace: Workplace) -> float:
    """What the step has come to, by its own account."""
    account = spent(StepFolder(workplace.step("traces")))
    assert account is not None
    return account.usd


def test_a_run_ends_before_the_servers_account_passes_max_cost_whatever_is_killed(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    cashier = Cashier(tokens=LIMIT // 2)

    def script(body: Body) -> Reply:
        time.sleep(0.1)
        return cashier(body)

    workplace = Workplace(tmp_path)
    with ChatServer(script).serving() as url:
        asked = {"name": "questions", "path": "questions.jsonl", "type": "integer"}
        teacher = {"job": "distil", "engine": "openai", "served_model": "r1", "questions": asked, **ASKED}
        teacher["resources"] = {"server": {"url": url, **SERVER}}
        workplace.file.write_text(json.dumps({"name": "paid", "steps": {"traces": teacher}}))

        def run(limit: float) -> tuple[int, str]:
            return workplace.run("run", "words.yaml", "--set", f"max_cost={limit}")

        code, output = run(0.1)
        assert code == 3, output
        assert "max_cost: $0.10: traces: a request may cost $0.010" in output
        assert "Traceback" not in output
        assert json.loads((workplace.step("traces") / "status.json").read_text())["state"] == "cancelled"
        assert 0.1 - MOST < cashier.bill <= usd(workplace) + 1e-9 <= 0.1 + 1e-9
        first = len(cashier.times)

        killed = workplace.start("run", "words.yaml", "--set", "max_cost=0.2")
        wait_for(lambda: len(cashier.times) >= first + 8)
        killed.kill()
        killed.wait()
        code, output = wait_for(lambda: found if (found := run(0.2))[0] != 2 else None)  # a dead run's lease runs out
        assert code == 3, output
        assert cashier.bill <= usd(workplace) + 1e-9 <= 0.2 + 1e-9, "what was under way when it was killed is counted"

        code, output = run(1.0)
        assert code == 0, output
    assert max(cashier.times.values()) <= 2, "asked again is what was under way when it was killed"
    assert sum(count - 1 for count in cashier.times.values()) <= 8
    print(f"the server's bill is ${cashier.bill:.4f}, ours ${usd(workplace):.4f}")
