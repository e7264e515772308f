"""Which flight a worker's result is for, what it holds, and whether more than the leader may have its answer.

A job that was set back reads requests again, while the workers pass over the tasks that they answered before. So the
result of a task is for whoever waits for it, by the task's id. But the flight may be another one than at the first
reading: the epochs were replaced or could not be read at one of the two times, or a rollout has ended. Then the leader
has its reply, and the answer is given to nobody else: it was begun before what the others must not get from before.
"""

import logging

from forebay_schemas.codec import Codec
from forebay_schemas.errors import RecordError
from forebay_schemas.records import Reply, Result

from .desk_state import DeskState
from .flights import flight_told, told, waiting
from .messages import Asker, Flight, asker_name

logger = logging.getLogger(__name__)


class Results:
    """Reads them for a desk."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def flight_of(self, state: DeskState, result: Result) -> tuple[str, Flight] | None:
        """The flight whose task a result is of, and its key; None where nobody waits for it here."""
        key = flight_told(result.flight_key)
        flight = state.flight(key)
        if flight is not None and flight.task_id == result.task_id:
            return key, flight
        try:
            reply = self._codec.decode(result.reply, Reply)
        except RecordError:
            return None
        found = waiting(state, asker_name(reply.tenant, reply.request_id))
        if found is None:
            return None
        place, flight, _ = found
        return (place.flight, flight) if flight.task_id == result.task_id else None

    def reply_in(self, result: Result, leader: Asker) -> Reply | None:
        """The reply that a result carries; None where it is no reply to the leader's request."""
        try:
            reply = self._codec.decode(result.reply, Reply)
        except RecordError as error:
            problem = str(error)
        else:
            if (reply.tenant, reply.request_id) != (leader.tenant, leader.request_id):
                problem = "it answers another request"
            elif reply.error is None and (reply.route is None or reply.model_id is None):
                problem = "it does not say which tier and model answered"
            else:
                return reply
        logger.warning("the result of task %s holds no reply to its request (%s)", result.task_id, problem)
        return None


def begun_otherwise(key: str, flight: Flight, result: Result) -> bool:
    """Whether the task of a flight was begun at an earlier reading of its request, under other epochs or in another
    arm."""
    return result.flight_key != told(key, flight.known)
