"""Stopping the job with a savepoint: it goes on from there as if it had never stopped, in a newer version too."""

import contextlib
import time

from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError

from .cluster import NO_ANSWER, Cluster
from .settings import checkpoint_folder

_POLL_S = 0.2


class NotStopped(ForebayError):
    """The job runs on, or it is not known whether it does."""


def stop(config: Config, timeout_s: float) -> str:
    """Stop the job, and return the path of its savepoint, which lies beside its checkpoints.

    Raises:
        NotStopped: there is no job, or it could not be stopped in time.
    """
    cluster, end_s = Cluster(config), time.monotonic() + timeout_s
    try:
        running = [job["jid"] for job in cluster.jobs() if job["state"] == "RUNNING"]
        if not running:
            raise NotStopped(f"no job runs at {config.flink.rest_address}; see `forebay status`")
        body = {"targetDirectory": checkpoint_folder(config), "drain": False}
        asked = cluster.request("POST", f"/jobs/{running[0]}/stop", body)["request-id"]
    except NO_ANSWER as error:
        raise NotStopped(f"the JobManager at {config.flink.rest_address} does not answer ({error})") from None
    while time.monotonic() < end_s:
        with contextlib.suppress(*NO_ANSWER):  # it stops all the same, and where its state lies is not to be missed
            told = cluster.get(f"/jobs/{running[0]}/savepoints/{asked}")
            if told["status"]["id"] == "COMPLETED":
                return _location(told["operation"])
        time.sleep(_POLL_S)
    raise NotStopped(f"it takes longer than {timeout_s:g} s; the job may stop yet, so look before you submit another")


def _location(operation: dict[str, object]) -> str:
    if "failure-cause" in operation:
        raise NotStopped(f"Flink could not take a savepoint, and the job runs on: {operation['failure-cause']}")
    return str(operation["location"])
