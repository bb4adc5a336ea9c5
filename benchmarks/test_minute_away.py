"""An experiment whose store, a bucket, and whose MLflow server are away for a minute: in training, and in the sweep.

    make test-faults

`make test` has the same for seconds. This takes some minutes, in most of which nothing happens.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from jobs.evaluate.trace_files import Index
from orchestrator.places import folders, place
from tests.finetune.buckets import Door, new_bucket, s3_server
from tests.orchestrator.test_bucket_run import TEXT, checkpointed, decoded, wait_for
from tests.orchestrator.workplace import Workplace
from tests.test_tracking_outage import _answers, free_port, until

AWAY_SECONDS = 60.0


@contextmanager
def tracking_server(folder: Path, port: int) -> Iterator[None]:
    """One that is killed when the block ends, and whose database stays."""
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"]
    with (folder / "server.txt").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: _answers(port), 90)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.timeout(1200)
def test_an_experiment_whose_store_and_tracking_are_away_for_a_minute_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with s3_server() as bucket_server:
        for name, value in {**bucket_server, "ORCHESTRATOR_CACHE": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(name, value)
        store = place(f"s3://{new_bucket(bucket_server)}/experiments")
        door = Door(bucket_server)
        workplace = Workplace(tmp_path)
        workplace.environment |= door.environment
        workplace.file.write_text(TEXT.format(store=store) + f"tracking: http://127.0.0.1:{port}\n")

        with ExitStack() as closing:
            closing.callback(door.shut)
            door.open()
            with tracking_server(tmp_path, port):
                run = workplace.start("run", "words.yaml")
                closing.callback(run.kill)
                wait_for(run, lambda: checkpointed(store))
            door.shut()
            time.sleep(AWAY_SECONDS)
            door.open()
            with tracking_server(tmp_path, port):
                before = wait_for(run, lambda: decoded(store))
            door.shut()
            time.sleep(AWAY_SECONDS)
            door.open()
            with tracking_server(tmp_path, port):
                wait_for(run, lambda: decoded(store) > before)
                output, _ = run.communicate(timeout=600)
                assert run.returncode == 0, output
                client = MlflowClient(f"http://127.0.0.1:{port}")
                runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
                (training,) = (each for each in runs if "loss" in each.data.metrics)
                losses = [metric.step for metric in client.get_metric_history(training.info.run_id, "loss")]

        assert set(Counter(each.info.run_name for each in runs).values()) == {1}
        assert sorted(losses) == list(range(1, 41))
        (traces,) = folders(store / "traces")
        index = Index(traces, pytest.fail)
        assert len(list(index._units)) == 160
        assert sum(len(index.unit(*unit).rows) for unit in index._units) == index.size, "a token was decoded twice"
