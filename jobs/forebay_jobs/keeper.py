"""Keeping the job on the cluster: submitted once, and again from its last checkpoint when it is gone.

Flink restarts the job itself when a TaskManager dies. A JobManager that dies without high availability forgets
the job, and a job that was cancelled or stopped stays away: then the keeper brings it back. One that was stopped left
nothing but its savepoint, since Flink takes its checkpoints away. One that reads a topic which was deleted and made
anew is cancelled, and goes on with that topic's first record: by itself it would with the offsets of the old one.
"""

import logging
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlparse

from confluent_kafka import KafkaException
from forebay_schemas.config import Config

from .cluster import NO_ANSWER, Cluster
from .settings import checkpoint_folder
from .topics_read import TopicsRead

POLL_S = 1.0
BACK_OFF_S = 1.0
"""Pause before the second submission in a row; it doubles with each further one."""
LONGEST_BACK_OFF_S = 30.0
LOOK_AT_TOPICS_S = 2.0
LOOK_AGAIN_S = 60.0
"""After the brokers could not be asked at all."""
SILENT_LOOKS = 15
"""Looks in a row that told nothing, after which that is said: a broker that is started anew takes no longer."""
TRIES = 3
"""Submissions from one checkpoint without the job completing another, before an older one is tried."""

logger = logging.getLogger(__name__)


class Keeper:
    """See the module. Only one keeper may run for an installation."""

    def __init__(self, config: Config, stop: threading.Event) -> None:
        self._config = config
        self._stop = stop
        self._cluster = Cluster(config)
        self._seen_checkpoint: str | None = None
        self._tried: Counter[str | None] = Counter()
        self._tidied_for: str | None = None
        self._topics = TopicsRead(config, self._local_folder())
        self._look_s = 0.0
        self._refused: str | None = None
        self._silent = 0

    def run(self) -> None:
        """Keep the job until ``stop`` is set. The job itself goes on."""
        waiting_for_cluster = False
        while not self._stop.is_set():
            try:
                self._keep()
                waiting_for_cluster = False
            except NO_ANSWER as error:
                if not waiting_for_cluster:
                    logger.warning("waiting for the JobManager at %s (%s)", self._config.flink.rest_address, error)
                waiting_for_cluster = True
            self._stop.wait(POLL_S)

    def _keep(self) -> None:
        alive = self._cluster.jobs()
        staying = sorted((job for job in alive if job["state"] != "CANCELLING"), key=lambda job: job["start-time"])
        for surplus in staying[1:]:
            logger.warning("job %s runs beside an older one; cancelling it", surplus["jid"])
            self._cluster.request("PATCH", f"/jobs/{surplus['jid']}")
        if staying:
            job_id = staying[0]["jid"]
            self._note_checkpoint(job_id)
            self._look_at_topics()
            if not self._topics.runs(job_id):
                logger.warning("topics were made anew; cancelling the job, to go on with their first records")
                self._cluster.request("PATCH", f"/jobs/{job_id}")
        if alive:
            return  # one that is being cancelled still writes
        if self._cluster.get("/overview")["slots-total"] >= self._config.flink.parallelism:
            self._submit()

    def _submit(self) -> None:
        checkpoint = self._checkpoint()
        if tries := self._tried.total():
            self._stop.wait(min(LONGEST_BACK_OFF_S, BACK_OFF_S * 2 ** min(tries - 1, 10)))
        if self._stop.is_set():
            return
        try:
            anew = self._topics.submit(checkpoint)
        except KafkaException as error:
            self._say_once("the job waits: topics that were made anew cannot be read from their beginning yet", error)
            return
        self._refused = None
        self._tried[checkpoint] += 1
        logger.info("submitting the job %s", f"from {checkpoint}" if checkpoint else "with empty state")
        # A process of its own: it brings a JVM, which is not needed afterwards.
        command = [sys.executable, "-m", "forebay_jobs", "submit"]
        if checkpoint:
            command += ["--checkpoint", checkpoint]
        for topic in anew.items():
            command += ["--anew", *topic]
        process = subprocess.Popen(command)
        while process.poll() is None:
            if self._stop.wait(0.2):
                process.terminate()
                process.wait()
                return
        if process.returncode:
            logger.error("the submission failed with exit code %d; trying again", process.returncode)

    def _look_at_topics(self) -> None:
        if time.monotonic() < self._look_s:
            return
        self._look_s = time.monotonic() + LOOK_AT_TOPICS_S
        try:
            told = self._topics.look()
        except KafkaException as error:
            logger.error("the brokers cannot be asked which topics there are (%s); the job is kept without", error)
            self._look_s = time.monotonic() + LOOK_AGAIN_S
            return
        self._silent = 0 if told else self._silent + 1
        if self._silent == SILENT_LOOKS:
            logger.warning("the brokers tell nothing of the topics; meanwhile one that is made anew goes unnoticed")

    def _say_once(self, what: str, error: KafkaException) -> None:
        """Tell of what is tried every second, when it begins and when its reason changes."""
        if str(error) != self._refused:
            logger.error("%s (%s)", what, error)
        self._refused = str(error)

    def _note_checkpoint(self, job_id: str) -> None:
        completed = (self._cluster.get(f"/jobs/{job_id}/checkpoints").get("latest") or {}).get("completed") or {}
        path = completed.get("external_path")
        if path is None:
            return
        self._seen_checkpoint = path
        self._tried.clear()  # whatever it was restored from could be restored
        if job_id != self._tidied_for:
            self._tidied_for = job_id
            self._remove_old_checkpoints(job_id)

    def _checkpoint(self) -> str | None:
        """What to submit from: the newest checkpoint that was not tried in vain; None where there is none at all.

        When all were tried in vain it begins again with the newest. Empty state is no way out: it would forget who
        waits for a reply.
        """
        known = self._known_checkpoints()
        for checkpoint in known:
            if self._tried[checkpoint] < TRIES:
                if checkpoint != known[0]:
                    logger.error("the job does not come up from %s; trying the older %s", known[0], checkpoint)
                return checkpoint
        return known[self._tried.total() // TRIES % len(known)] if known else None

    def _known_checkpoints(self) -> list[str]:
        """Complete checkpoints and savepoints, newest first, on a file system we can list; else the last checkpoint
        that the cluster told of."""
        folder = self._local_folder()
        if folder is None:
            return [self._seen_checkpoint] if self._seen_checkpoint else []
        found = [*folder.glob("*/chk-*/_metadata"), *folder.glob("savepoint-*/_metadata")]
        complete = sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return [path.parent.as_uri() for path in complete]

    def _remove_old_checkpoints(self, job_id: str) -> None:
        """Remove what earlier submissions left behind, but for the last one of them: this job has its own by now.
        Savepoints stay: whoever asked for one says when it is of no use any more."""
        folder = self._local_folder()
        if folder is None:
            return
        others = [
            path
            for path in folder.iterdir()
            if path.is_dir() and path.name != job_id and not path.name.startswith("savepoint-")
        ]
        for path in sorted(others, key=lambda path: path.stat().st_mtime_ns)[:-1]:
            shutil.rmtree(path, ignore_errors=True)

    def _local_folder(self) -> Path | None:
        location = urlparse(checkpoint_folder(self._config))
        return Path(unquote(location.path)) if location.scheme in ("", "file") else None
