"""Brings the replies of a batch from Kafka into its journal."""

import math
import time
from pathlib import Path

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import BatchState, Reply

from .journal import Counted, Journal
from .log import ReplyReader


class Collector:
    """Reads what the journal does not have yet. A journal that was deleted is filled again from the beginning.

    Args:
        folder: of journals.

    Raises:
        BrokerUnavailable: the reply topic cannot be read.
        ForebayError: the journal cannot be used.
    """

    def __init__(self, config: Config, codec: Codec, state: BatchState, folder: Path) -> None:
        self.journal = Journal(folder, state)
        self._codec = codec
        try:
            self._reader = ReplyReader(config, state, self.journal.positions(state))
        except BaseException:
            self.journal.close()
            raise

    @property
    def gap(self) -> bool:
        """Whether replies may be gone from Kafka that were not read."""
        return self._reader.gap

    @property
    def at_end(self) -> bool:
        """Whether all is taken in that there was when collecting began."""
        return self._reader.at_end

    def collect(self, timeout_s: float) -> list[int]:
        """Take in what has come; waits so long at most where there is nothing. The rows whose replies were read, also
        where another process had put them into the journal before.

        Raises:
            RecordError: a reply is of a version that is not known here.
        """
        portion = self._reader.poll(timeout_s)
        if portion.positions:
            self.journal.add(portion.replies, portion.positions, lambda value: self._codec.decode(value, Reply))
        return [row for row, _ in portion.replies]

    def catch_up(self, until_s: float = math.inf) -> None:
        """Take in all that there is now, or what can be until then, in seconds of the monotonic clock."""
        while not self.at_end and time.monotonic() < until_s:
            self.collect(0.1)

    def tally(self) -> dict[str, Counted]:
        """What has come, by kind."""
        return self.journal.tally()

    @property
    def cost(self) -> float:
        """US dollars that the replies cost."""
        return sum(counted.cost for counted in self.tally().values())

    def close(self) -> None:
        self._reader.close()
        self.journal.close()
