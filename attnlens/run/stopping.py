"""Ctrl-C, told once: what is in hand is finished and written. Told twice, it interrupts."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["asked_to_stop"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Of a person, and of a cluster that wants its machine back."""
TOLD = "stopping once what is in hand is done and written; Ctrl-C again stops at once"


@contextlib.contextmanager
def asked_to_stop(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether somebody asked to stop; the second time they ask, they interrupt.

    Only the main thread hears signals: elsewhere, and where a program has handlers of its own, nothing changes.

    >>> import os
    >>> with asked_to_stop(print) as asked:
    ...     before = asked()
    ...     os.kill(os.getpid(), signal.SIGTERM)
    ...     before, asked()
    stopping once what is in hand is done and written; Ctrl-C again stops at once
    (False, True)
    """
    told: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if told:
            raise KeyboardInterrupt
        told.append(number)
        # A handler may interrupt the very printing that it asks for; then it goes without.
        with contextlib.suppress(RuntimeError):
            say(TOLD)

    unheard = (signal.default_int_handler, signal.SIG_DFL)
    here = threading.current_thread() is threading.main_thread()
    before = {one: signal.getsignal(one) for one in SIGNALS if here and signal.getsignal(one) in unheard}
    try:
        for one in before:
            signal.signal(one, note)
        yield lambda: bool(told)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
