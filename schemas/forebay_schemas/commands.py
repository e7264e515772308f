"""The commands of the control topic: what each is called, what it names, and the key that it is kept under."""

import hashlib
import json
import zlib

from .batches import is_batch
from .invalidation import Invalidation
from .records import Control

CANCEL = "cancel"
"""Takes a request back, or all rows of a batch; its arguments ``tenant`` and ``request_id`` name it. For the job and,
where it is a batch, for the workers."""
CANCEL_TASK = "cancel_task"
"""Ends a generation that nobody waits for; its argument ``task_id`` names the task. For the workers."""
INVALIDATE = "invalidate"
"""Lets answers hold no longer; its arguments are the filters of ``Invalidation`` and, where the event that acknowledges
it is waited for, ``id``: the event's key. For the job."""
FORGET = "forget"
"""Removes what the job keeps of a ``tenant``, or of one ``user`` of it. Each bucket of the desk acknowledges it by an
event whose key is its ``id``."""
FORGOTTEN = "forgotten"
"""That event: ``bucket`` and how many ``buckets`` there are; what was ``found`` and is ``left`` of its part."""

_SLOTS = 4_096
"""Cancellations share so many keys, which bounds what compaction keeps of them; they are read within seconds."""


def cancel(tenant: str, request_id: str, *, issued_by: str, issued_ms: int) -> Control:
    """The command that takes a request back, or all rows of a batch."""
    arguments = {"tenant": tenant, "request_id": request_id}
    if is_batch(request_id):  # workers that start within its window read it too, so no other may take its place
        key = f"{CANCEL}/{request_id}"
        return Control(key=key, command=CANCEL, issued_ms=issued_ms, issued_by=issued_by, arguments=arguments)
    return _command(CANCEL, tenant + request_id, arguments, issued_by, issued_ms)


def cancel_task(task_id: str, *, issued_by: str, issued_ms: int) -> Control:
    """The command that ends a generation."""
    return _command(CANCEL_TASK, task_id, {"task_id": task_id}, issued_by, issued_ms)


def invalidate(invalidation: Invalidation, command_id: str, *, issued_by: str, issued_ms: int) -> Control:
    """The command that lets answers hold no longer, acknowledged under its id."""
    return _acknowledged(INVALIDATE, invalidation.arguments(), command_id, issued_by, issued_ms)


def forget(tenant: str, user: str | None, command_id: str, *, issued_by: str, issued_ms: int) -> Control:
    """The command that removes what is kept of a tenant, or of one of its users."""
    arguments = {"tenant": tenant} | ({"user": user} if user is not None else {})
    return _acknowledged(FORGET, arguments, command_id, issued_by, issued_ms)


def _acknowledged(command: str, arguments: dict[str, str], command_id: str, issued_by: str, issued_ms: int) -> Control:
    """A command whose key it has in common only with those that say the same: compaction must not take it back for
    another one that nobody has read yet, and a repeat takes the place of what was not acknowledged."""
    about = hashlib.blake2b(json.dumps(arguments, sort_keys=True).encode(), digest_size=16).hexdigest()
    return Control(
        key=f"{command}/{about}",
        command=command,
        issued_ms=issued_ms,
        issued_by=issued_by,
        arguments={**arguments, "id": command_id},
    )


def _command(command: str, about: str, arguments: dict[str, str], issued_by: str, issued_ms: int) -> Control:
    key = f"{command}/{zlib.crc32(about.encode()) % _SLOTS}"
    return Control(key=key, command=command, issued_ms=issued_ms, issued_by=issued_by, arguments=arguments)
