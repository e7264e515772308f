"""Asks the parts of a stack whether they do their work: each question is answered within seconds, and never raises."""

import http.client
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from forebay_jobs.settings import job_name
from forebay_schemas.config import Config
from forebay_schemas.section import TlsConfig

_TIMEOUT_S = 2.0
_HEARTBEATS_S = 2.5
"""Two intervals of the heartbeat that the local cluster is set to, and some delay."""


def kafka_answers(config: Config) -> bool:
    """Whether a broker tells its topics."""
    if not any(accepts(address) for address in config.kafka.bootstrap.split(",")):
        return False  # asked first, because librdkafka waits the whole time-out where nobody listens
    try:
        AdminClient(config.kafka.client() | {"log_level": 0}).list_topics(timeout=_TIMEOUT_S)
    except KafkaException:
        return False
    return True


def redis_answers(config: Config) -> bool:
    """Whether Redis answers PING."""
    client = redis.Redis.from_url(**config.redis.client(), socket_timeout=_TIMEOUT_S)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def jobmanager_answers(config: Config) -> bool:
    """Whether the JobManager's REST interface gives its overview."""
    return _json(config.flink.rest_address, "/overview") is not None


def taskmanager_registered(config: Config, name: str) -> bool:
    """Whether the JobManager hears from the TaskManager of this resource id, and has slots on it.

    For a few seconds the JobManager does not know that one was killed, so the age of its last sign of life counts.
    """
    found = _json(config.flink.rest_address, "/taskmanagers") or {}
    oldest_ms = (time.time() - _HEARTBEATS_S) * 1000
    return any(
        manager["id"] == name and manager["slotsNumber"] > 0 and manager["timeSinceLastHeartbeat"] >= oldest_ms
        for manager in found.get("taskmanagers", ())
    )


def job_runs(config: Config) -> bool:
    """Whether our job runs with every one of its tasks."""
    found = _json(config.flink.rest_address, "/jobs/overview") or {}
    ours = [job for job in found.get("jobs", ()) if job["name"] == job_name(config) and job["state"] == "RUNNING"]
    return any(job["tasks"]["running"] == job["tasks"]["total"] for job in ours)


def http_answers(url: str, tls: TlsConfig | None = None) -> bool:
    """Whether a server answers HTTP at all, with whatever status."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        context = (tls or TlsConfig()).context()
        connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _json(address: str, path: str) -> Any | None:
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return json.load(response) if response.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def accepts(address: str) -> bool:
    host, _, port = address.strip().rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True
