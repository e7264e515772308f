"""Commands that go to Redis together, and whose answers come back together.

redis-py's pipeline takes a connection from its pool for each round trip, and sees first whether that one still lives:
as much processor time as all commands of an exact lookup. A thread keeps its connection here, and one that has died
with its server is noticed by using it.
"""

from typing import Any

import redis
from redis.connection import ConnectionInterface


class RoundTrip:
    """Gathers commands, and asks them all in one round trip."""

    def __init__(self, connection: ConnectionInterface) -> None:
        """
        Args:
            connection: with nothing unread on it, and nobody else's meanwhile.
        """
        self._connection = connection
        self._commands: list[tuple[str | bytes | int, ...]] = []

    def add(self, *command: str | bytes | int) -> None:
        """Ask this too, and get its answer in this place."""
        self._commands.append(command)

    def ask(self) -> list[Any]:
        """What the commands returned, as Redis says it; None of one that met a key of another type, which counts as no
        entry.

        Raises:
            redis.RedisError: Redis does not answer, or refuses another command.
        """
        connection: Any = self._connection
        return connection.retry.call_with_retry(self._ask_once, lambda _: connection.disconnect())

    def _ask_once(self) -> list[Any]:
        connection: Any = self._connection
        connection.send_packed_command(connection.pack_commands(self._commands))
        answers = [_answer(connection) for _ in self._commands]  # all are read before one is raised
        for answer in answers:
            if isinstance(answer, redis.ResponseError):
                raise answer
        return answers


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return None if str(error).startswith("WRONGTYPE") else error
