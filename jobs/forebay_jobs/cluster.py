"""What a Flink cluster is asked over its REST interface, and which of its jobs is ours."""

import json
import urllib.request
from http.client import HTTPException
from typing import Any

from forebay_schemas.config import Config

from .settings import job_name

NO_ANSWER = (OSError, HTTPException, ValueError, KeyError)
"""What asking a JobManager that goes down or comes up leads to: no connection, half an answer, a page of text."""
_ALIVE = {"INITIALIZING", "CREATED", "RUNNING", "RESTARTING", "FAILING", "RECONCILING", "SUSPENDED", "CANCELLING"}
_TIMEOUT_S = 5


class Cluster:
    """The one of a configuration. Its methods raise ``NO_ANSWER``."""

    def __init__(self, config: Config) -> None:
        self._address = config.flink.rest_address
        self._name = job_name(config)

    def jobs(self) -> list[dict[str, Any]]:
        """Our jobs that are not over, as the cluster's overview tells of them."""
        jobs = self.get("/jobs/overview")["jobs"]
        return [job for job in jobs if job["name"] == self._name and job["state"] in _ALIVE]

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"http://{self._address}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={} if body is None else {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return json.loads(response.read() or b"{}")
