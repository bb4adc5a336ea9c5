"""What is used of the private parts of libraries: the whole list, with why, and that each is as we use it.

An upgrade that moves or changes one fails here, in seconds, and not in the middle of a night.
"""

from __future__ import annotations

import ast
import inspect
import logging
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

PRIVATE = (
    *("ray._private", "ray._raylet", "ray.core.generated", "ray.train.v2._internal"),
    *("torch._inductor", "transformers.modeling_utils", "vllm.v1"),
)
"""Where a name that begins with an underscore does not tell."""


def parameters(function: Callable[..., object]) -> set[str]:
    return set(inspect.signature(function).parameters)


def ignore_files_are_read(function: Callable[..., list[Callable[[Path], bool]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, ".gitignore").write_text("*.bin\n")
        [excluded] = function(Path(folder), include_gitignore=True, logger=logging.getLogger())
        assert excluded(Path(folder, "big.bin"))
        assert not excluded(Path(folder, "small"))


def has(*names: str) -> Callable[[object], None]:
    def check(value: object) -> None:
        assert [name for name in names if not hasattr(value, name)] == []

    return check


def takes(*names: str) -> Callable[[Callable[..., object]], None]:
    def check(function: Callable[..., object]) -> None:
        assert set(names) <= parameters(function), parameters(function)

    return check


def is_exception(value: type[Exception]) -> None:
    assert issubclass(value, Exception)


def logits_processor_v1(kind: type) -> None:
    assert {"apply", "update_state", "is_argmax_invariant"} <= set(kind.__abstractmethods__)
    assert {"vllm_config", "device", "is_pin_memory"} <= parameters(kind)


def logits_processor_v2(kind: type) -> None:
    assert {"vllm_config", "req_states"} <= parameters(kind)
    assert {"logits", "ctx"} <= parameters(kind.apply)


def worker_group(kind: Any) -> None:
    assert {"scaling_config", "worker_group_context"} <= parameters(kind._create_placement_group)
    assert {"workers", "sync_actor", "train_context_args"} <= parameters(kind._init_train_context_on_workers)
    has("_decorate_worker_log_file_paths")(kind)


USED: dict[str, tuple[str, Callable[..., object]]] = {
    # Ray
    "ray._private.ray_constants": ("own Ray binds to the loopback", has("ENABLE_RAY_CLUSTER")),
    "ray._raylet.AuthenticationTokenLoader": ("own Ray has a token of its own", has("instance")),
    "ray._raylet.Config": ("Ray reads its environment anew", has("initialize")),
    "ray._private.runtime_env.packaging.get_excludes_from_ignore_files": (
        "what an upload leaves out",
        ignore_files_are_read,
    ),
    "ray._private.state.available_resources_per_node": ("what is free where", callable),
    "ray._private.state.state": (
        "nodes that drain; who holds what",
        has("get_draining_nodes", "_connect_and_get_accessor"),
    ),
    "ray._raylet.GcsClient": ("letting go of a node of a Slurm job that idles", callable),
    "ray.core.generated.autoscaler_pb2.DrainNodeReason": ("the same", has("Value")),
    "ray.core.generated.autoscaler_pb2.NodeStatus": ("which nodes idle", has("IDLE", "DEAD")),
    "ray.core.generated.gcs_pb2.PlacementGroupTableData": (
        "who waits",
        has("FromString", "CREATED", "PENDING", "REMOVED"),
    ),
    "ray.train._internal.utils.get_address_and_port": ("where workers connect", callable),
    "ray.train.torch.config._set_torch_distributed_env_vars": (
        "how they do",
        lambda function: not parameters(function),
    ),
    "ray.train.torch.config._setup_torch_process_group": (
        "the same",
        takes("backend", "world_rank", "world_size", "init_method", "timeout_s"),
    ),
    "ray.train.torch.config._shutdown_torch": ("how they part", takes("destroy_process_group")),
    "ray.train.v2._internal.util.TrainingFramework": ("what Ray's dashboard shows of a gang", has("TORCH")),
    "ray.train.v2._internal.callbacks.datasets.DatasetsCallback": (
        "a process that a gang is spared",
        has("before_init_train_context"),
    ),
    "ray.train.v2._internal.callbacks.placement_group_callback.PlacementGroupCleanerCallback": (
        "another",
        has("after_controller_start"),
    ),
    "ray.train.v2._internal.execution.scaling_policy.fixed.FixedScalingPolicy": (
        "the third",
        has("after_controller_start", "_maybe_send_resource_request", "make_decision_for_running_worker_group"),
    ),
    "ray.train.v2._internal.execution.controller.TrainController": (
        "the fourth: it runs in the step's process",
        has("run", "get_result", "worker_group_cls"),
    ),
    "ray.train.v2._internal.constants.ENABLE_PREEMPTION_WATCHER_ENV_VAR": ("the fifth", str.isidentifier),
    "ray.train.v2._internal.constants.ENABLE_PRINT_PATCH_ENV_VAR": ("nothing is logged twice", str.isidentifier),
    "ray.train.v2._internal.execution.worker_group.WorkerGroup": (
        "a gang is known by its placement group's name, and no actor coordinates it",
        worker_group,
    ),
    "ray.train.v2._internal.execution.worker_group.worker_group": ("the sixth", has("SynchronizationActor")),
    "ray.train.v2._internal.execution.worker_group.DefaultPlacementGroupHandle": ("the same", takes("pg")),
    "ray.train.v2._internal.constants.WORKER_GROUP_START_TIMEOUT_S_ENV_VAR": (
        "how long a gang is waited for",
        str.isidentifier,
    ),
    "ray.train.v2._internal.constants.HEALTH_CHECK_INTERVAL_S_ENV_VAR": (
        "how soon a lost worker is seen",
        str.isidentifier,
    ),
    "ray.train.v2._internal.exceptions.RayTrainError": ("what Ray Train itself noticed", is_exception),
    "ray.train.v2._internal.exceptions.WorkerGroupStartupFailedError": (
        "a worker that died at its start",
        is_exception,
    ),
    "ray.train.v2._internal.exceptions.WorkerGroupStartupTimeoutError": ("a cluster without room", is_exception),
    "ray.train.v2._internal.exceptions.WorkerHealthCheckFailedError": ("why a worker was lost", takes("failure")),
    # torch
    "torch.distributed.checkpoint._fsspec_filesystem.FsspecReader": ("checkpoints in buckets", takes("path")),
    "torch.distributed.checkpoint._fsspec_filesystem.FsspecWriter": ("checkpoints in buckets", takes("path")),
    "torch._inductor.cpp_builder.get_cpp_compiler": ("whether layers can be compiled here", callable),
    "torch._inductor.exc.InvalidCxxCompiler": ("whether layers can be compiled here", is_exception),
    "torch.utils._triton.has_triton": ("whether layers can be compiled here", callable),
    # transformers
    "transformers.modeling_utils": ("weights that are hashed as they are written", has("safe_save_file")),
    # vLLM
    "vllm.v1.engine.async_llm.AsyncLLM": ("the engine", has("generate", "from_vllm_config", "shutdown", "errored")),
    "vllm.v1.executor.uniproc_executor.UniProcExecutor": ("model and scheduler in one process, on CPUs", callable),
    "vllm.v1.engine.exceptions.EngineDeadError": ("an engine that died", is_exception),
    "vllm.v1.engine.exceptions.EngineGenerateError": ("a request that failed", is_exception),
    "vllm.v1.sample.logits_processor.LogitsProcessor": (
        "ids that the tokenizer lacks; noise by position",
        logits_processor_v1,
    ),
    "vllm.v1.sample.logits_processor.builtin.process_dict_updates": ("the same", takes("req_entries", "batch_update")),
    "vllm.v1.worker.gpu.sample.logits_processor.LogitsProcessor": ("the same, on GPUs", logits_processor_v2),
}
"""Why each is used, and a check that it is what we take it for."""


def is_private(name: str) -> bool:
    return name.startswith(PRIVATE) or any(
        part.startswith("_") and not part.startswith("__") for part in name.split(".")
    )


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_list_is_all_that_the_product_imports() -> None:
    ours = ("cluster.", "orchestrator.", "jobs.")
    files = [file for package in ("cluster", "orchestrator", "jobs") for file in (ROOT / package).rglob("*.py")]
    names = {name for file in files for name in imported(file)}
    assert {name for name in names if is_private(name) and not name.startswith(ours)} == set(USED)


@pytest.mark.parametrize("name", USED)
def test_what_is_private_is_as_we_use_it(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    _, check = USED[name]
    found = getattr(import_module(module), attribute, None) or import_module(name)
    assert check(found) is not False
