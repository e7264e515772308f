"""The commands of the control topic: what each is called, what it names, and the key that it is kept under."""

import zlib

from .records import Control

CANCEL = "cancel"
"""Takes a request back; its arguments ``tenant`` and ``request_id`` name it. For the job."""
CANCEL_TASK = "cancel_task"
"""Ends a generation that nobody waits for; its argument ``task_id`` names the task. For the workers."""

_SLOTS = 4_096
"""Cancellations share so many keys, which bounds what compaction keeps of them; they are read within seconds."""


def cancel(tenant: str, request_id: str, *, issued_by: str, issued_ms: int) -> Control:
    """The command that takes a request back."""
    arguments = {"tenant": tenant, "request_id": request_id}
    return _command(CANCEL, tenant + request_id, arguments, issued_by, issued_ms)


def cancel_task(task_id: str, *, issued_by: str, issued_ms: int) -> Control:
    """The command that ends a generation."""
    return _command(CANCEL_TASK, task_id, {"task_id": task_id}, issued_by, issued_ms)


def _command(command: str, about: str, arguments: dict[str, str], issued_by: str, issued_ms: int) -> Control:
    key = f"{command}/{zlib.crc32(about.encode()) % _SLOTS}"
    return Control(key=key, command=command, issued_ms=issued_ms, issued_by=issued_by, arguments=arguments)
