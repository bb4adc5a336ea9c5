"""The network of a gang: what it is told to take, what it says it took, and how fast that is against the catalogue."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist

from cluster.catalogue import MachineType, machine
from jobs.finetune import network
from jobs.finetune.network import bandwidth, check, choose, fabric, interface
from orchestrator.job.errors import StepError
from tests.finetune.gang import processes

VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_NET", "NCCL_DEBUG", "NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_FILE")
NCCL_S_LOG = """\
node-1:152:386 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.4.51<0>
node-1:152:386 [0] NCCL INFO Assigned NET plugin {net} to comm
node-1:152:386 [0] NCCL INFO Using network {net}
node-1:152:386 [0] NCCL INFO ncclCommInitRankConfig comm 0x562b2c1973d0 rank 0 nranks 4 cudaDev 0
"""
NOT_FOUND = "ncclInvalidUsage: invalid usage. Last error:\nError: network AWS Libfabric not found."


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "x")  # so that what is set is undone
        monkeypatch.delenv(name)


@pytest.fixture
def efa(tmp_path: Path) -> Path:
    """What Linux shows of a machine with an EFA device."""
    (tmp_path / "drivers" / "efa").mkdir(parents=True)
    device = tmp_path / "infiniband" / "rdmap16s27" / "device"
    device.mkdir(parents=True)
    (device / "driver").symlink_to(tmp_path / "drivers" / "efa")
    return tmp_path / "infiniband"


def mellanox(folder: Path, link_layer: str, state: str) -> Path:
    port = folder / "mlx5_0" / "ports" / "1"
    port.mkdir(parents=True)
    (port / "state").write_text(f"{state}\n")
    (port / "link_layer").write_text(f"{link_layer}\n")
    return folder


@pytest.mark.parametrize(
    ("link_layer", "state", "found"),
    [("InfiniBand", "4: ACTIVE", "infiniband"), ("InfiniBand", "1: DOWN", None), ("Ethernet", "4: ACTIVE", None)],
)
def test_infiniband_counts_where_it_is_up(tmp_path: Path, link_layer: str, state: str, found: str | None) -> None:
    assert fabric(mellanox(tmp_path, link_layer, state)) == found


def test_nccl_must_take_the_fabric_between_nodes_and_nowhere_else(efa: Path, tmp_path: Path) -> None:
    choose("127.0.0.1", nodes=1, fabrics=efa)
    assert "NCCL_NET" not in os.environ
    choose("127.0.0.1", nodes=2, fabrics=tmp_path / "none")
    assert "NCCL_NET" not in os.environ
    choose("127.0.0.1", nodes=2, fabrics=efa)
    assert os.environ["NCCL_NET"] == "AWS Libfabric"
    assert os.environ["NCCL_DEBUG"] == "INFO"


def test_what_the_user_has_set_stays(efa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NCCL_NET": "Socket", "NCCL_DEBUG": "WARN", "GLOO_SOCKET_IFNAME": "ens5"}.items():
        monkeypatch.setenv(name, value)
    choose("127.0.0.1", nodes=2, fabrics=efa)
    assert [os.environ.get(name) for name in VARIABLES] == ["ens5", "Socket", "WARN", None, None]


def test_gloo_gets_the_interface_that_leads_to_the_gang() -> None:
    for name, addresses in psutil.net_if_addrs().items():
        for address in (each.address for each in addresses if each.family.name == "AF_INET"):
            assert interface(address) == name
    assert interface("no such host.invalid") is None


def refusal(monkeypatch: pytest.MonkeyPatch, fabrics: Path) -> str:
    """What a worker with a GPU says on two nodes; its sums are a double's."""
    with pytest.raises(StepError) as caught:
        check(torch.device("cuda"), machine("p5.48xlarge"), 16, nodes=2, fabrics=fabrics)
    return str(caught.value)


def test_a_fabric_whose_plugin_is_missing_is_an_error_with_the_remedy(
    efa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_found(device: torch.device) -> float:
        raise dist.DistBackendError(NOT_FOUND)

    choose("127.0.0.1", nodes=2, fabrics=efa)
    monkeypatch.setattr(network, "bandwidth", not_found)
    said = refusal(monkeypatch, efa)
    assert said.startswith("resources.machine: the machines have a fabric that NCCL calls 'AWS Libfabric'")
    assert "aws-ofi-nccl" in said
    monkeypatch.setenv("NCCL_NET", "IB")
    with pytest.raises(dist.DistBackendError):
        check(torch.device("cuda"), machine("p5.48xlarge"), 16, nodes=2, fabrics=efa)


@pytest.mark.parametrize(("net", "wanted", "fails"), [
    ("Socket", None, True), ("Socket", "Socket", False), ("AWS Libfabric", None, False), ("Libfabric", None, False),
])  # fmt: skip
def test_tcp_beside_a_fabric_is_an_error_unless_asked_for_and_what_nccl_took_is_in_the_log(
    efa: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    net: str,
    wanted: str | None,
    fails: bool,
) -> None:
    log = tmp_path / "nccl.log"
    log.write_text(NCCL_S_LOG.format(net=net))
    monkeypatch.setenv("NCCL_DEBUG_FILE", str(log))
    if wanted:
        monkeypatch.setenv("NCCL_NET", wanted)
    monkeypatch.setattr(network, "bandwidth", lambda device: 300e9)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    if fails:
        assert "and NCCL took TCP" in refusal(monkeypatch, efa)
        return
    check(torch.device("cuda"), machine("p5.48xlarge"), 16, nodes=2, fabrics=efa)
    assert f"Network: NCCL over {net}, gloo over" in capsys.readouterr().out


def _sum_up(rank: int, folder: Path, workers: int, figures: tuple[float, ...]) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "meeting-point"), workers)
    choose("127.0.0.1", nodes=1)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    device = torch.device("cpu")
    with (folder / f"said-{rank}").open("w") as file:
        os.dup2(file.fileno(), 1)
        file.write(f"{bandwidth(device)}\n")
        file.flush()
        for figure in figures:
            check(device, faked(figure), workers, nodes=1)
    dist.destroy_process_group()


def faked(figure: float) -> MachineType:
    """A machine whose catalogue entry says that cards exchange so many bytes per second."""
    real = machine("m7i.2xlarge")
    return replace(real, card=replace(real.card, link=figure))


@pytest.mark.processes
def test_a_network_far_below_the_catalogue_s_figure_is_warned_of(tmp_path: Path) -> None:
    processes.start_processes(_sum_up, args=(tmp_path, 2, (1e3, 1e15)), nprocs=2, start_method="forkserver")
    measured, fast, slow, warning = (tmp_path / "said-0").read_text().splitlines()
    assert 1e6 < float(measured) < 1e12
    assert re.fullmatch(
        r"Network: gloo over lo, 1 node: [\d.]+ GB/s past each worker, of 1e-06 that .* planned with", fast
    )
    assert "of 1e+06 that m7i.2xlarge" in slow
    assert re.match(r"warning: the network is slow: .* take \d+ times as long as planned", warning)
    assert len((tmp_path / "said-1").read_text().splitlines()) == 1
