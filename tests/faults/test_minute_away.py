"""An experiment whose store, a bucket, and whose MLflow server are away for a minute: in training, and in the sweep.

    make test-faults

tests/faults/test_bucket_run.py has the same for seconds. This takes some minutes, in most of which nothing happens.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.store.storage import storage_path
from tests.faults.test_bucket_run import TEXT, assert_all_is_there_once, checkpointed, decoded, wait_for
from tests.finetune.buckets import Door, new_bucket, s3_server
from tests.orchestrator.tracking.tracking_server import free_port, tracking_server
from tests.orchestrator.workplace import Workplace

AWAY_SECONDS = 60.0


@pytest.mark.timeout(1200)
def test_an_experiment_whose_store_and_tracking_are_away_for_a_minute_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with s3_server() as bucket_server:
        for name, value in {**bucket_server, "ORCHESTRATOR_CACHE": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(name, value)
        store = storage_path(f"s3://{new_bucket(bucket_server)}/experiments")
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
        assert_all_is_there_once(store)
