"""Doing one thing until something else happens."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> tuple[T | None, bool]:
    """Do `work` until `event` is set; return (its result, True), or (None, False) when it was dropped."""
    task = asyncio.create_task(work)
    bell = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((task, bell), return_when=asyncio.FIRST_COMPLETED)
        return (task.result(), True) if task.done() else (None, False)
    finally:
        await drop(task, bell)


async def drop(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
