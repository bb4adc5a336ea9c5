"""The cluster files, against Ray's own schema and code, a simulated EC2, and the published Kubernetes definitions."""

from __future__ import annotations

import configparser
import copy
import os
import subprocess
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

from orchestrator.store.storage import complaint

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
DEFINITIONS = ROOT.parent / "shared" / "data" / "kuberay"
KUBERNETES = [
    document
    for document in yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    if document["apiVersion"] == "ray.io/v1"
]


def ready(name: str) -> dict[str, Any]:
    """A cluster file as Ray takes it, defaults filled in and checked."""
    prepared: dict[str, Any] = prepare_config(yaml.safe_load((CLUSTER / f"{name}.yaml").read_text()))
    validate_config(prepared)
    return prepared


@pytest.mark.parametrize("name", ["aws", "gcp", "local"])
def test_ray_accepts_the_file_and_its_head_takes_no_work(name: str) -> None:
    cluster = ready(name)
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    assert all(node["min_workers"] == 0 for node in types.values())


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_spot_comes_first_and_everyone_needs_the_token(name: str) -> None:
    cluster = ready(name)
    types = cluster["available_node_types"]
    assert types["h100_spot"]["priority"] > types["h100_on_demand"]["priority"]
    assert types["h100_spot"]["resources"] == types["h100_on_demand"]["resources"]
    assert any(target.endswith("/.ray/auth_token") for target in cluster["file_mounts"])
    environment = " ".join(cluster["setup_commands"])
    assert "RAY_AUTH_MODE=token" in environment
    assert "RAY_enable_autoscaler_v2=1" in environment
    starts = [line for line in cluster["head_start_ray_commands"] if "--head" in line]
    assert all("--dashboard-host=127.0.0.1" in line for line in starts)
    assert starts


@pytest.mark.parametrize("name", ["aws", "kuberay"])
def test_the_bucket_is_said_once_and_no_key_is(name: str) -> None:
    text = (CLUSTER / f"{name}.yaml").read_text()
    assert text.count("bucket-REPLACE") == 1
    assert "mnt/store" not in text
    assert not any(word in text for word in ("ACCESS_KEY", "SECRET", "aws_access"))


def test_processes_on_aws_find_the_store_in_the_bucket(tmp_path: Path) -> None:
    (line,) = [line for line in ready("aws")["setup_commands"] if "ORCHESTRATOR_STORE" in line]
    subprocess.run(["bash", "-ec", line], env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, check=True)
    show = f". {tmp_path}/.orchestrator.env; echo $ORCHESTRATOR_STORE"
    store = subprocess.run(["bash", "-ec", show], capture_output=True, text=True, check=True).stdout.strip()
    assert store == "s3://bucket-REPLACE/runs"
    assert complaint(store) is None


def test_pods_find_the_store_in_the_bucket() -> None:
    documents = list(yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text()))
    names = {(each["kind"], each["metadata"]["name"]) for each in documents}
    spec = KUBERNETES[0]["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert ("ServiceAccount", pod["serviceAccountName"]) in names
        bucket, store, _ = pod["containers"][0]["env"]
        source = bucket["valueFrom"]["configMapKeyRef"]
        assert ("ConfigMap", source["name"]) in names
        assert store == {"name": "ORCHESTRATOR_STORE", "value": f"$({bucket['name']})/runs"}


def replaced(value: Any, words: dict[str, str]) -> Any:
    """A file whose placeholders were filled in."""
    if isinstance(value, dict):
        return {key: replaced(each, words) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, words) for each in value]
    for word, new in words.items() if isinstance(value, str) else ():
        value = value.replace(word, new)
    return value


@pytest.mark.seconds
def test_ec2_takes_what_ray_makes_of_the_aws_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    with mock_aws():
        ec2 = boto3.client("ec2", region_name="us-west-2")
        subnets = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-west-2a"]}])["Subnets"]
        groups = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [subnets[0]["VpcId"]]}])
        iam = boto3.client("iam")
        for name in ("scaling-head", "scaling-worker"):
            iam.create_instance_profile(InstanceProfileName=name)
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        words = {
            "subnet-REPLACE": subnets[0]["SubnetId"],
            "sg-REPLACE": groups["SecurityGroups"][0]["GroupId"],
            "ami-REPLACE": image,
        }
        cluster = bootstrap_aws(replaced(ready("aws"), words))
        provider = AWSNodeProvider(cluster["provider"], cluster["cluster_name"])
        for name in ("head", "h100_spot", "h100_on_demand"):
            node = copy.deepcopy(cluster["available_node_types"][name])
            assert len(provider.create_node(node["node_config"], {"ray-user-node-type": name}, 1)) == 1
        started = {
            next(tag["Value"] for tag in instance["Tags"] if tag["Key"] == "ray-user-node-type"): instance
            for reservation in ec2.describe_instances()["Reservations"]
            for instance in reservation["Instances"]
        }
    assert started["head"]["InstanceType"] == "m7i.2xlarge"
    assert "InstanceLifecycle" not in started["head"]
    assert started["h100_spot"]["InstanceType"] == "p5.48xlarge"
    assert started["h100_spot"]["InstanceLifecycle"] == "spot"
    assert "InstanceLifecycle" not in started["h100_on_demand"]
    profiles = {name: instance["IamInstanceProfile"]["Arn"].rpartition("/")[2] for name, instance in started.items()}
    assert profiles.pop("head") == "scaling-head"
    assert set(profiles.values()) == {"scaling-worker"}
    network = cluster["available_node_types"]["h100_capacity_block"]["node_config"]["NetworkInterfaces"]
    assert [card["NetworkCardIndex"] for card in network] == list(range(32))


def strict(schema: Any) -> Any:
    """A schema under which a key that it does not name is an error, as ``kubectl --validate=strict`` has it."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    known = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        known.setdefault("additionalProperties", False)
    return known


@pytest.mark.seconds
@pytest.mark.parametrize("document", KUBERNETES, ids=lambda document: document["kind"])
def test_the_published_definition_accepts_the_kubernetes_file(document: dict[str, Any]) -> None:
    kind = document["kind"]
    text = (DEFINITIONS / f"ray.io_{kind.lower()}s.yaml").read_text()
    definition = yaml.load(text, Loader=yaml.CSafeLoader)
    (version,) = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError, match="enableAutoscalling"):
        jsonschema.validate({**document, "spec": {**document["spec"], "enableAutoscalling": True}}, schema)


def documents(kind: str) -> dict[str, dict[str, Any]]:
    """The documents of a kind in the Kubernetes file, by name."""
    found = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """Every pod of the Kubernetes file, by what starts it."""
    cluster, job = KUBERNETES
    groups = {"head": cluster["spec"]["headGroupSpec"]["template"]["spec"]}
    groups |= {each["groupName"]: each["template"]["spec"] for each in cluster["spec"]["workerGroupSpecs"]}
    groups["submitter"] = job["spec"]["submitterPodTemplate"]["spec"]
    groups["mlflow"] = documents("Deployment")["mlflow"]["spec"]["template"]["spec"]
    return groups


@pytest.mark.parametrize("name", pods())
def test_every_pod_runs_as_a_user_without_capabilities(name: str) -> None:
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    # The head asks Kubernetes for workers; nobody else talks to it.
    assert name == "head" or pod["automountServiceAccountToken"] is False


def test_only_the_cluster_reaches_its_pods_and_mlflow() -> None:
    policies = documents("NetworkPolicy")
    covered = {tuple(each["spec"]["podSelector"]["matchLabels"].items()) for each in policies.values()}
    assert covered == {(("ray.io/cluster", KUBERNETES[0]["metadata"]["name"]),), (("app", "mlflow"),)}
    for policy in policies.values():
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        for rule in policy["spec"]["ingress"]:
            assert all("podSelector" in source for source in rule["from"]), (
                "from pods that are named, never from anywhere"
            )
    submitter = KUBERNETES[1]["spec"]["submitterPodTemplate"]["metadata"]["labels"]
    (kuberay,) = [rule for rule in policies["scaling-ray"]["spec"]["ingress"] if "ports" in rule]
    assert {"podSelector": {"matchLabels": submitter}} in kuberay["from"]


def secrets(pod: dict[str, Any]) -> set[str]:
    return {each["secretRef"]["name"] for container in pod["containers"] for each in container.get("envFrom", [])}


def test_mlflow_asks_for_a_password_and_has_no_secret_that_it_does_not_need() -> None:
    (container,) = pods()["mlflow"]["containers"]
    assert container["command"][2:4] == ["--app-name", "basic-auth"]
    assert secrets(pods()["mlflow"]) == {"scaling-mlflow-server", "scaling-bucket"}
    clients = secrets(pods()["head"])
    assert clients == {"scaling-secrets", "scaling-bucket", "scaling-mlflow-client"}
    assert all(secrets(pods()[name]) == clients for name in ("h100-spot", "h100-on-demand"))
    assert not secrets(pods()["submitter"])
    configuration = configparser.ConfigParser()
    configuration.read_string(documents("ConfigMap")["scaling-mlflow"]["data"]["basic_auth.ini"])
    assert configuration["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert "admin_password" not in configuration["mlflow"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert configuration["mlflow"]["database_uri"] == f"sqlite:///{mounts['database']}/basic_auth.db"


def test_the_image_runs_as_the_pods_user_and_can_be_pinned_by_digest() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    assert "FROM ${BASE}" in lines
    user = lines.index(f"USER {pods()['head']['securityContext']['runAsUser']}")
    assert all(not line.startswith(("COPY", "RUN make")) for line in lines[:user]), "nothing is installed as root"
    assert not any(line.startswith("USER") for line in lines[user + 1 :])


def test_machines_take_the_wheels_that_their_head_has() -> None:
    """The checkout is copied from head to machine with wheels/ in it, and make asks no index where that is whole."""
    for name in ("aws", "gcp"):
        cluster = ready(name)
        assert cluster["file_mounts"]["/home/ubuntu/orchestrator"] == "."
        assert not any("wheels" in each for each in cluster["rsync_exclude"])
        assert any("make install GPU=1" in line for line in cluster["setup_commands"])
    told = subprocess.run(
        ["make", "-n", "install", "GPU=1"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    installs = [line for line in told.splitlines() if "install --quiet" in line]
    assert installs
    assert all("--no-index" in line for line in installs)


def test_the_kubernetes_cluster_asks_for_a_token_and_its_head_takes_no_work() -> None:
    cluster, job = KUBERNETES
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert cluster["spec"]["autoscalerOptions"]["version"] == "v2"
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    spot, on_demand = cluster["spec"]["workerGroupSpecs"]
    assert spot["priority"] > on_demand["priority"]
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    # KubeRay refuses both together, or deletes the cluster that others use, by its version.
    assert "backoffLimit" not in job["spec"]
    assert (ROOT / Path(job["spec"]["entrypoint"]).relative_to("/orchestrator")).is_file()
