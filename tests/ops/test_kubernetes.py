"""The Kubernetes deployment renders, is what the definitions of its kinds allow, and agrees with the code."""

import importlib
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import kubernetes_validate
import pyflink
import pytest
import yaml
from forebay_gateway.app import make_app
from forebay_jobs.__main__ import main as job_program
from forebay_ops.cli import forebay
from forebay_schemas.config import Config, load_config
from forebay_schemas.metrics import GatewayMetrics
from forebay_schemas.records import Lane
from forebay_schemas.sections import KafkaConfig, LocalConfig
from forebay_schemas.tiers import Backend
from prometheus_client import CollectorRegistry

from tests.ops.custom_resources import definitions_in, flink_deployment, problems
from tests.ops.deployed import ROOT, extras, instructions, take

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which renders the files, is missing")

FOLDER = ROOT / "ops" / "kubernetes"
KUBERNETES = "1.34"
FLINK = Path(pyflink.__file__).parent
DOCUMENTATION = (ROOT / "docs" / "deployment.md").read_text()
(DOCUMENTED,) = re.findall(r"```yaml\n(resources:.*?)```", DOCUMENTATION, re.DOTALL)
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {"resources": ["base"]},
    "kserve": {"resources": ["kserve"]},
    "retraining": {"resources": ["base"], "components": ["retraining"]},
    "documented": yaml.safe_load(DOCUMENTED),
}


@cache
def rendered(variant: str) -> list[dict[str, Any]]:
    """All objects, as `kubectl apply` sends them for an installation whose kustomization.yaml names the variant."""
    with tempfile.TemporaryDirectory() as folder:
        named = dict(VARIANTS[variant])
        for kind in named.keys() & {"resources", "components"}:
            places = (FOLDER / Path(name).name for name in named[kind])
            named[kind] = [os.path.relpath(place, Path(folder).resolve()) for place in places]
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(named))
        shutil.copy(FOLDER / "base" / "forebay.toml", folder)
        done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(kind: str, variant: str = "base") -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in rendered(variant) if each["kind"] == kind}


def pods(variant: str = "base") -> dict[str, dict[str, Any]]:
    """The Pod templates, by the name of what makes Pods of them; Flink's with the labels that the operator gives."""
    found = {
        name: each["spec"]["template"]
        for kind in ("Deployment", "Job")
        for name, each in of_kind(kind, variant).items()
    }
    for name, each in of_kind("CronJob", variant).items():
        found[name] = each["spec"]["jobTemplate"]["spec"]["template"]
    job = of_kind("FlinkDeployment", variant)["forebay-job"]["spec"]["podTemplate"]
    labels = job["metadata"]["labels"] | {"app": "forebay-job"}
    for component in ("jobmanager", "taskmanager"):
        found[component] = {**job, "metadata": {"labels": labels | {"component": component}}}
    return found


def each_pod() -> list[tuple[str, str]]:
    """Of every variant, with the variant."""
    return [(pod, variant) for variant in VARIANTS for pod in pods(variant)]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return only


def selected(labels: dict[str, str]) -> set[str]:
    """The Pods that a selector finds."""
    return {name for name, pod in pods().items() if labels.items() <= pod["metadata"]["labels"].items()}


def ports(pod: dict[str, Any]) -> dict[str, int]:
    return {each["name"]: each["containerPort"] for each in container(pod).get("ports", ())}


def image_of(pod: str, variant: str = "base") -> str:
    """Which of ours a Pod runs, from whichever registry: tools, job or worker."""
    job = of_kind("FlinkDeployment", variant)["forebay-job"]["spec"]["image"]
    name, version = container(pods(variant)[pod]).get("image", job).rpartition("/")[2].split(":")
    assert version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return name.removeprefix("forebay-")


SECRETS = {
    "kafka-user": "forebay",
    "kafka-password": "secret",
    "kafka-ca": "an authority's certificate",
    "redis-password": "secret",
    "qdrant-api-key": "secret",
    "task-secret": "a secret of tasks",
    "hf-token": "secret",
    "s3-access-key": "secret",
    "s3-secret-key": "secret",
}


def environment(pod: str, variant: str) -> dict[str, str]:
    """What a Pod's program finds in its environment, with the keys of the Secret that the variant needs."""
    found: dict[str, str] = {}
    for source in container(pods(variant)[pod]).get("envFrom", ()):
        found |= of_kind("ConfigMap", variant)[source["configMapRef"]["name"]]["data"]
    asked_who = found.get("FOREBAY_KAFKA__SECURITY_PROTOCOL", "PLAINTEXT") != "PLAINTEXT"
    for each in container(pods(variant)[pod])["env"]:
        key = each.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
        if key is None:
            found[each["name"]] = each["value"]
        elif asked_who or not key.startswith("kafka-"):
            found[each["name"]] = SECRETS[key]
    return found


def config_of(pod: str, variant: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The configuration that a Pod's program reads."""
    template = pods(variant)[pod]
    (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == "config")
    (mount,) = (each for each in container(template)["volumeMounts"] if each["name"] == "config")
    given = environment(pod, variant)
    assert given["FOREBAY_CONFIG"] == mount["mountPath"]
    file = folder / "forebay.toml"
    file.write_text(of_kind("ConfigMap", variant)[volume["configMap"]["name"]]["data"][mount["subPath"]])
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    if (authority := given.get(_AUTHORITY)) is not None:
        monkeypatch.setenv(_AUTHORITY, str(_from_the_secret(template, authority, folder)))
    return load_config(file)


_AUTHORITY = "FOREBAY_KAFKA__TLS__CA_FILE"


def _from_the_secret(template: dict[str, Any], path: str, folder: Path) -> Path:
    """The file that a program finds at the path, with what is in the Secret."""
    (mount,) = (each for each in container(template)["volumeMounts"] if each["mountPath"] == str(Path(path).parent))
    (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == mount["name"])
    assert volume["secret"]["secretName"] == "forebay"
    (item,) = volume["secret"]["items"]
    assert item["path"] == Path(path).name
    found = folder / item["path"]
    found.write_text(SECRETS[item["key"]])
    return found


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """What the job's TaskManagers run with."""
    return config_of("taskmanager", "base", tmp_path, monkeypatch)


# --- by the definitions


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_of_kubernetes_is_as_its_schema_says(variant: str):
    kinds = set()
    for each in rendered(variant):
        group = each["apiVersion"].rpartition("/")[0]
        if "." not in group or group.endswith(".k8s.io"):
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
            kinds.add(each["kind"])
    assert kinds >= {"Deployment", "Job", "Service", "NetworkPolicy", "PersistentVolumeClaim", "PodDisruptionBudget"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_custom_resources_are_as_the_models_of_their_definitions_say(variant: str):
    models = {
        "keda.sh/v1alpha1": importlib.import_module("cloudcoil.models.keda.v1alpha1"),
        "monitoring.coreos.com/v1": importlib.import_module("cloudcoil.models.prometheus_operator.v1"),
    }
    checked = [each for each in rendered(variant) if each["apiVersion"] in models]
    assert len(checked) >= 8
    for each in checked:
        model = getattr(models[each["apiVersion"]], each["kind"]).model_validate(each)
        # The models pass over fields that they do not know, which are then missing.
        assert model.model_dump(mode="json", by_alias=True, exclude_unset=True) == each


def test_the_flink_deployment_is_as_the_operator_defines_it():
    try:
        definition = flink_deployment()
    except (OSError, RuntimeError) as error:
        pytest.skip(f"the operator's definition cannot be fetched ({error})")
    (job,) = of_kind("FlinkDeployment").values()
    newer = [f"$.spec.flinkVersion: '{job['spec']['flinkVersion']}' is not one of"]  # than that release of the operator
    assert [each[: len(newer[0])] for each in problems(job, definition)] == newer


def test_custom_resources_are_as_a_cluster_defines_them():
    folder = os.environ.get("KUBERNETES_CRDS")
    if folder is None:
        pytest.skip("KUBERNETES_CRDS names no folder of definitions, such as `kubectl get crds -o yaml` of a cluster")
    definitions = definitions_in(Path(folder))
    checked = set()
    for each in (each for variant in VARIANTS for each in rendered(variant)):
        definition = definitions.get((each["apiVersion"].split("/")[0], each["kind"]))
        if definition is not None:
            assert list(problems(each, definition)) == []
            checked.add(each["kind"])
    assert checked >= {"FlinkDeployment", "ScaledObject"}


# --- by themselves


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_named_is_there(variant: str):
    here = {(each["kind"], each["metadata"]["name"]) for each in rendered(variant)}
    named = set()
    for pod in pods(variant).values():
        for volume in pod["spec"].get("volumes", ()):
            named |= {("ConfigMap", volume["configMap"]["name"])} if "configMap" in volume else set()
            if "persistentVolumeClaim" in volume:
                named.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
        named |= {("ConfigMap", each["configMapRef"]["name"]) for each in container(pod)["envFrom"]}
        mounted = {each["name"] for each in container(pod)["volumeMounts"]}
        assert mounted == {each["name"] for each in pod["spec"]["volumes"]}
    named.add(("ServiceAccount", of_kind("FlinkDeployment", variant)["forebay-job"]["spec"]["serviceAccount"]))
    for scaled in of_kind("ScaledObject", variant).values():
        named.add(("Deployment", scaled["spec"]["scaleTargetRef"]["name"]))
        for trigger in scaled["spec"]["triggers"]:
            if "authenticationRef" in trigger:
                named.add(("TriggerAuthentication", trigger["authenticationRef"]["name"]))
    assert len(named) > 8
    assert named <= here
    claims = {each for each in here if each[0] == "PersistentVolumeClaim"}
    assert claims <= named  # and none is left over


@pytest.mark.parametrize(("pod", "variant"), each_pod())
def test_a_pod_has_no_more_rights_than_it_needs(pod: str, variant: str):
    template = pods(variant)[pod]
    of_pod = template["spec"]["securityContext"]
    assert of_pod["runAsNonRoot"]
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(template)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    dockerfile = ROOT / "ops" / "docker" / f"{image_of(pod, variant)}.Dockerfile"
    assert f"--uid {of_pod['runAsUser']} " in dockerfile.read_text()
    if pod not in ("jobmanager", "taskmanager"):  # which ask Kubernetes for Pods
        assert template["spec"]["automountServiceAccountToken"] is False
        assert "memory" in container(template)["resources"]["limits"]


def test_the_documentation_tells_of_every_key_of_the_secret_and_no_secret_is_written_down():
    used = set()
    for variant in VARIANTS:
        assert not of_kind("Secret", variant)
        for given in (each for pod in pods(variant).values() for each in container(pod)["env"]):
            if "value" in given:
                assert given["name"] == "FOREBAY_CONFIG"
            else:
                assert given["valueFrom"]["secretKeyRef"].items() >= {"name": "forebay", "optional": True}.items()
                used.add(given["valueFrom"]["secretKeyRef"]["key"])
        for each in of_kind("TriggerAuthentication", variant).values():
            used |= {one["key"] for one in each["spec"]["secretTargetRef"]}
    assert used == set(SECRETS)
    (table,) = re.findall(r"^\| key \| as the setting .*?\n\n", DOCUMENTATION, re.DOTALL | re.MULTILINE)
    keys = "".join(row.split("|")[1] for row in table.splitlines() if row)
    assert set(re.findall(r"`(\S+)`", keys)) == used


# --- against the code


@pytest.mark.parametrize(("pod", "variant"), [each for each in each_pod() if not each[0].endswith("manager")])
def test_a_command_exists_and_its_image_has_what_it_needs(pod: str, variant: str):
    program, *words = container(pods(variant)[pod])["args"]
    assert program == "forebay"
    take(words)
    needed = forebay._entries[words[0]].extra  # pyright: ignore[reportAttributeAccessIssue]: a LazyGroup
    image = extras(ROOT / "ops" / "docker" / f"{image_of(pod, variant)}.Dockerfile")
    for each in needed.split(",") if needed else ():
        assert image & ({"workers-gpu", "workers-http"} if each == "workers-cpu" else {each})


def test_the_router_is_retrained_once_a_month_and_its_weights_lie_where_the_job_reads_them():
    spec = of_kind("CronJob", "retraining")["router-retrain"]["spec"]
    minute, hour, day, *every = spec["schedule"].split()
    assert (int(minute), int(hour), int(day), every) == (0, 4, 1, ["*", "*"])
    here = pods("retraining")
    folder = container(here["router-retrain"])["args"][-1]
    for pod in ("router-retrain", "taskmanager"):
        (mount,) = (each for each in container(here[pod])["volumeMounts"] if each["mountPath"] == folder)
        (volume,) = (each for each in here[pod]["spec"]["volumes"] if each["name"] == mount["name"])
        assert volume["persistentVolumeClaim"]["claimName"] == "router"
    assert of_kind("PersistentVolumeClaim", "retraining")["router"]["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_to_forget_in_the_ledgers_pod_there_is_all_that_it_takes(variant: str):
    assert "FOREBAY_REDIS__PASSWORD" in environment("ledger", variant)
    needed = forebay._entries["forget"].extra  # pyright: ignore[reportAttributeAccessIssue]: a LazyGroup
    image = extras(ROOT / "ops" / "docker" / f"{image_of('ledger', variant)}.Dockerfile")
    assert needed is None or needed in image


@pytest.mark.parametrize(("pod", "variant"), each_pod())
def test_a_pod_starts_with_a_valid_configuration(
    pod: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Unknown names of settings are errors there, in the file, the environment and the keys of the Secret.
    config = config_of(pod, variant, tmp_path, monkeypatch)
    assert config.kafka.bootstrap != KafkaConfig().bootstrap


def test_every_part_that_forebay_up_runs_has_its_place():
    annotation = LocalConfig.model_fields["start"].annotation
    parts = set(get_args(get_args(annotation)[0])) - {"kafka", "redis"}  # which are named, not run
    deployed = {"flink", "job"} if of_kind("FlinkDeployment") else set()
    for pod in pods().values():
        component = pod["metadata"]["labels"].get("app.kubernetes.io/component")
        deployed |= {component} if component else set()
    assert parts <= deployed


def test_probes_and_prometheus_ask_the_ports_that_the_parts_open(config: Config):
    expected = {
        "taskmanager": {"metrics": config.metrics.job_port, "flink-metrics": config.metrics.flink_port},
        "ledger": {"metrics": config.metrics.ledger_port},
        "rollouts": {"metrics": config.metrics.rollouts_port},
        **{f"worker-{tier}": {"metrics": config.metrics.worker_port} for tier in config.tiers},
    }
    for name, opened in expected.items():
        assert ports(pods()[name]) == opened
        for probe in ("startupProbe", "readinessProbe"):
            if name != "taskmanager":
                assert container(pods()[name])[probe]["httpGet"] == {"path": "/metrics", "port": "metrics"}


def test_the_gateway_takes_calls_where_its_service_sends_them(config: Config):
    pod = pods()["gateway"]
    assert ports(pod) == {"http": config.gateway.port, "metrics": config.metrics.gateway_port}
    assert config.gateway.host == "0.0.0.0"
    assert config.gateway.key_file is not None  # without it anybody could call, and it would not start
    (keys,) = (each for each in container(pod)["volumeMounts"] if each["name"] == "keys")
    assert config.gateway.key_file.parent == Path(keys["mountPath"])
    service = of_kind("Service")["gateway"]["spec"]
    assert selected(service["selector"]) == {"gateway"}
    assert service["ports"][0]["targetPort"] == "http"
    known = {route.path for route in make_app(config, GatewayMetrics(CollectorRegistry())).routes}  # pyright: ignore
    probes = [container(pod)[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert {probe["path"] for probe in probes} <= known
    assert probes[1]["path"] == "/readyz"
    stop_s = int(container(pod)["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > stop_s + config.gateway.drain_timeout_s
    scaled = of_kind("HorizontalPodAutoscaler")["gateway"]["spec"]
    assert scaled["minReplicas"] >= 2
    assert "replicas" not in of_kind("Deployment")[scaled["scaleTargetRef"]["name"]]["spec"]


def test_prometheus_finds_the_same_by_monitors_as_by_names():
    scraped = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text())["scrape_configs"]
    by_name = {
        (job["job_name"], name, lookup["port"])
        for job in scraped
        for lookup in job["dns_sd_configs"]
        for name in lookup["names"]
    }
    found = set()
    for monitor in of_kind("PodMonitor").values():
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (label,) = endpoint["relabelings"]
        for pod in selected(monitor["spec"]["selector"]["matchLabels"]):
            found.add((label["replacement"], pod, ports(pods()[pod])[endpoint["port"]]))
    assert found == by_name
    allowed = {
        port["port"] for rule in of_kind("NetworkPolicy")["metrics"]["spec"]["ingress"] for port in rule["ports"]
    }
    assert allowed == {"metrics", "flink-metrics"}


def test_the_alert_rules_make_a_prometheus_rule():
    (command,) = re.findall(r"^\(printf 'apiVersion.*?\) \|", DOCUMENTATION, re.DOTALL | re.MULTILINE)
    done = subprocess.run(["sh", "-c", command.removesuffix("|")], cwd=ROOT, capture_output=True, text=True, check=True)
    rule = yaml.safe_load(done.stdout)
    models = importlib.import_module("cloudcoil.models.prometheus_operator.v1")
    assert models.PrometheusRule.model_validate(rule).model_dump(mode="json", by_alias=True, exclude_unset=True) == rule
    assert rule["spec"] == yaml.safe_load((ROOT / "ops/prometheus/alerts.yml").read_text())


def test_top_finds_the_pods_by_the_names_of_services(config: Config):
    services = {name: each["spec"] for name, each in of_kind("Service").items() if name != "gateway"}
    assert {each["clusterIP"] for each in services.values()} == {"None"}  # a name for all, none of them in particular
    found = {name: selected(each["selector"]) for name, each in services.items()}
    assert [found[name] for name in config.metrics.job_targets] == [{"taskmanager"}]
    assert [found[name] for name in config.metrics.worker_targets] == [{f"worker-{tier}" for tier in config.tiers}]
    assert [found[name] for name in config.metrics.ledger_targets] == [{"ledger"}]


def test_each_tier_has_its_worker_its_gpus_and_time_to_drain(config: Config):
    for tier, settings in config.tiers.items():
        pod = pods()[f"worker-{tier}"]
        args = container(pod)["args"]
        assert args[args.index("--tiers") + 1] == tier
        gpus = config.models[settings.model].engine["tensor_parallel_size"]
        assert container(pod)["resources"]["limits"]["nvidia.com/gpu"] == gpus
        grace_s = pod["spec"]["terminationGracePeriodSeconds"]
        assert grace_s >= config.worker.drain_timeout_s + 15  # as the local stack gives the engine to stop
    assert {name for name in pods() if name.startswith("worker-")} == {f"worker-{tier}" for tier in config.tiers}


_OF_KEDA = {"SCRAM-SHA-512": "scram_sha512", "SCRAM-SHA-256": "scram_sha256", "PLAIN": "plaintext"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_workers_scale_by_the_lag_of_the_groups_that_they_read_in(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = config_of("taskmanager", variant, tmp_path, monkeypatch)
    for tier, settings in config.tiers.items():
        scaled = of_kind("ScaledObject", variant)[f"worker-{tier}"]["spec"]
        worker = scaled["scaleTargetRef"]["name"]
        assert worker == f"worker-{tier}"
        assert "replicas" not in of_kind("Deployment", variant)[worker]["spec"]  # two would say how many
        assert scaled["maxReplicaCount"] <= config.kafka.partitions
        for lane, trigger in zip((Lane.INTERACTIVE, Lane.BATCH), scaled["triggers"], strict=True):
            asked = trigger["metadata"]
            assert trigger["name"] == lane
            assert asked["topic"] == config.kafka.topics.tier(tier, lane)
            assert asked["consumerGroup"] == config.kafka.topics.workers_group(tier, lane)
            assert environment(worker, variant)[asked["bootstrapServersFromEnv"]] == config.kafka.bootstrap
            assert asked.get("sasl") == (_OF_KEDA[config.kafka.sasl_mechanism] if config.kafka.sasl else None)
            assert (asked.get("tls") == "enable") is config.kafka.security_protocol.endswith("SSL")
            assert ("authenticationRef" in trigger) is config.kafka.sasl
        interactive, batch = (int(trigger["metadata"]["lagThreshold"]) for trigger in scaled["triggers"])
        assert interactive == config.models[settings.model].engine["max_num_seqs"]
        assert batch > 100 * interactive


def test_an_authority_of_ones_own_reaches_every_part_that_speaks_to_kafka(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for pod in pods("documented"):
        config = config_of(pod, "documented", tmp_path, monkeypatch)
        assert config.kafka.security_protocol == "SASL_SSL"
        assert config.kafka.client()["ssl.ca.location"] == str(tmp_path / "ca.pem")
    (keda,) = of_kind("TriggerAuthentication", "documented").values()
    assert {"parameter": "ca", "name": "forebay", "key": "kafka-ca"} in keda["spec"]["secretTargetRef"]


def test_a_model_of_kserve_is_called_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = config_of("worker-large", "kserve", tmp_path, monkeypatch)
    model = config.models[config.tiers["large"].model]
    assert model.backend is Backend.OPENAI
    ((name, service),) = of_kind("InferenceService", "kserve").items()
    assert urlsplit(model.endpoint.url or "").netloc == f"{name}-predictor.{service['metadata']['namespace']}.svc"
    args = dict(arg.removeprefix("--").split("=") for arg in service["spec"]["predictor"]["model"]["args"])
    assert args["model_name"] == (model.endpoint.model or config.tiers["large"].model)
    assert args["model_id"] == model.weights
    assert int(args["max-num-seqs"]) == model.endpoint.concurrency
    for name, setting in (("tensor-parallel-size", "tensor_parallel_size"), ("max-model-len", "max_model_len")):
        assert int(args[name]) == model.engine[setting]
    caller = pods("kserve")["worker-large"]
    assert "nvidia.com/gpu" not in container(caller)["resources"]["limits"]
    assert image_of("worker-large", "kserve") == "tools"
    assert image_of("worker-small", "kserve") == "worker"


# --- Flink


def test_flink_is_started_by_what_the_image_holds():
    spec = of_kind("FlinkDeployment")["forebay-job"]["spec"]
    job, settings = spec["job"], spec["flinkConfiguration"]
    home = dict(re.findall(r"(\w+)=(\S+)", (ROOT / "ops/docker/job.Dockerfile").read_text()))["FLINK_HOME"]
    jar = job["jarURI"].removeprefix(f"local://{home}/")
    with zipfile.ZipFile(FLINK / jar) as archive:
        assert f"{job['entryClass'].replace('.', '/')}.class" in archive.namelist()
    assert settings["kubernetes.flink.conf.dir"] == f"{home}/conf"
    assert (FLINK / "bin" / "kubernetes-jobmanager.sh").exists()
    module, command = job["args"][job["args"].index("-pym") + 1 :]
    assert importlib.import_module(f"{module}.__main__").main is job_program
    assert command in job_program.commands


def test_flink_knows_every_setting(config: Config):
    with zipfile.ZipFile(next((FLINK / "lib").glob("flink-dist-*.jar"))) as archive:
        options = b"".join(archive.read(name) for name in archive.namelist() if name.endswith("Options.class"))
    settings = of_kind("FlinkDeployment")["forebay-job"]["spec"]["flinkConfiguration"]
    unknown = {name for name in settings if name.encode() not in options}
    assert unknown == {"metrics.reporter.prom.factory.class", "metrics.reporter.prom.port"}  # named by their reporter
    assert settings["metrics.reporter.prom.port"] == str(config.metrics.flink_port)


def test_flink_is_set_as_its_image_and_its_package_set_it():
    # The operator's file takes the place of the image's, so that what is right there has to be said again.
    settings = of_kind("FlinkDeployment")["forebay-job"]["spec"]["flinkConfiguration"]
    text = " ".join(rest for _, rest in instructions(ROOT / "ops/docker/job.Dockerfile"))
    baked = dict(re.findall(r"-D (\S+)=(\S+)", text))
    assert len(baked) > 6
    assert {name: value for name, value in baked.items() if "bind-" not in name}.items() <= settings.items()
    shipped = yaml.safe_load((FLINK / "conf" / "config.yaml").read_text())
    assert settings["env.java.opts.all"] == shipped["env"]["java"]["opts"]["all"]


def test_the_job_has_the_slots_that_it_needs_and_survives_what_it_must(config: Config):
    spec = of_kind("FlinkDeployment")["forebay-job"]["spec"]
    settings = spec["flinkConfiguration"]
    changed = of_kind("FlinkDeployment", "documented")["forebay-job"]["spec"]
    assert spec["job"]["parallelism"] < changed["job"]["parallelism"] <= config.desk.buckets
    slots = int(settings["taskmanager.numberOfTaskSlots"])
    assert spec["job"]["parallelism"] == config.flink.parallelism == slots * config.flink.task_managers
    # Without these the operator refuses more than one JobManager, and this way of upgrading.
    assert spec["jobManager"]["replicas"] > 1
    assert settings["high-availability.type"] == "kubernetes"
    kept = [
        settings[name]
        for name in (
            "high-availability.storageDir",
            "execution.checkpointing.dir",
            "execution.checkpointing.savepoint-dir",
        )
    ]
    assert {urlsplit(place).scheme for place in kept} == {"s3"}
    assert spec["job"]["upgradeMode"] == "savepoint"
    assert "/plugins/s3" in (ROOT / "ops/docker/job.Dockerfile").read_text()
