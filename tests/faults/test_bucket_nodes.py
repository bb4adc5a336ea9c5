"""Machines that share nothing but a bucket: raylets with caches of their own, of which one is switched off.

    make test-faults

`make test` has one machine and a bucket.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.store.storage import storage_path
from tests.faults.test_bucket_run import TEXT, assert_all_is_there_once, decoded, wait_for
from tests.finetune.buckets import new_bucket, s3_server
from tests.nodes import head_alone, switch_off
from tests.orchestrator.workplace import Workplace

ON_BOTH = "    resources: {in_flight: 1, replicas: {min: 1, max: 2}}\n"


@pytest.mark.timeout(600)
def test_what_a_machine_has_stored_is_not_decoded_again_when_it_is_gone_with_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = [tmp_path / "going", tmp_path / "staying"]
    with ExitStack() as closing:
        bucket_server = closing.enter_context(s3_server())
        for name, value in {**bucket_server, "ORCHESTRATOR_CACHE": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(name, value)
        store = storage_path(f"s3://{new_bucket(bucket_server)}/experiments")
        cluster = closing.enter_context(head_alone())  # its nodes have the environment as it is now
        going, _ = [cluster.add_node(num_cpus=1, env_vars={"ORCHESTRATOR_CACHE": str(cache)}) for cache in caches]
        workplace = Workplace(tmp_path)
        workplace.file.write_text(TEXT.format(store=store).replace("    resources: {in_flight: 1}\n", ON_BOTH))
        workplace.environment["RAY_ADDRESS"] = cluster.address
        run = workplace.start("run", "words.yaml")
        closing.callback(run.kill)
        wait_for(run, lambda: all(list(cache.glob("*/fetched/tiny-*")) for cache in caches) and decoded(store) > 8)
        switch_off(cluster, going)
        shutil.rmtree(caches[0])
        output, _ = run.communicate(timeout=300)
        assert run.returncode == 0, output
        code, status = workplace.run("status", "words.yaml")
        assert code == 0, status
        assert "preempted" in status
        assert_all_is_there_once(store)
        assert not caches[0].exists()
