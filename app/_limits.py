"""What one call may take: a time limit, a place in line, and errors that a visitor may read."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import functools
import html
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr

from limpq_hub.errors import LimpqError, SearchError
from limpq_hub.plan.deadline import NotInTimeError

# Disk, quota, memory, open files: what passes when others are done.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE)
# A first word that is a word, and no keyword, file or name, which are as they are written: 'bitops="3G" cannot be met'.
_WORD = re.compile(r"[a-z]+(-[a-z]+)*[,;:]?(?=\s|$)", re.ASCII)
_NO_ANSWER = "the search failed; try a slightly other budget, or run it on your machine"
_NO_PROOF = "no proven optimum in time; raise the budget, pin fewer layers, or run it on your machine"
_given_up: contextvars.ContextVar[threading.Event] = contextvars.ContextVar("given_up")


class GivenUp(Exception):
    """Nobody waits any more for the call that this thread works at."""


def stop_if_given_up() -> None:
    """Raise `GivenUp` once nobody waits for the call any more; work that takes long asks between its steps.

    Raises:
        GivenUp: the limit is over, or the visitor went away.
    """
    event = _given_up.get(None)
    if event is not None and event.is_set():
        raise GivenUp


class Limiter:
    """Runs calls in a few threads, and waits for each of them for a limited time."""

    def __init__(self, limit_s: float, *, workers: int, most_waiting: int) -> None:
        """Prepare the threads.

        Args:
            limit_s: seconds that a caller waits.
            workers: calls at once. One that was given up keeps its thread until it next asks `stop_if_given_up`.
            most_waiting: calls that run or wait; more are refused.
        """
        self._limit_s = limit_s
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="limited")
        self._places = threading.BoundedSemaphore(most_waiting)

    def guarded(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return `work` as a button calls it: within the limits, its errors one sentence for the visitor.

        A coroutine: gradio has threads of its own for other functions, where calls would wait without a limit.
        """

        @functools.wraps(work)
        async def limited(*arguments: Any) -> Any:
            if not self._places.acquire(blocking=False):
                raise _visible("too many visitors at once; try again in a few seconds")
            # The context tells gradio which visitor a progress bar belongs to.
            context, given_up = contextvars.copy_context(), threading.Event()
            context.run(_given_up.set, given_up)
            future = self._pool.submit(context.run, work, *arguments)
            future.add_done_callback(lambda _: self._places.release())
            try:
                return await asyncio.wait_for(asyncio.wrap_future(future), self._limit_s)
            # Not the builtin before Python 3.11.
            except asyncio.TimeoutError:
                raise _visible(f"this took more than {self._limit_s:g} s and was given up; try again later") from None
            except NotInTimeError:  # its own advice is for who calls the library
                raise _visible(_NO_PROOF) from None
            except SearchError as error:
                raise _visible(_NO_ANSWER, printed=True) from error
            except LimpqError as error:
                raise _visible(str(error)) from None
            except (OSError, MemoryError) as error:
                if isinstance(error, OSError) and error.errno not in _NO_ROOM:
                    message = "the server could not read or write a file; upload yours again, or try again later"
                    raise _visible(message, printed=True) from error
                raise _visible("the server has no room for this now; try again later") from None
            finally:
                given_up.set()

        return limited

    def answered(self, work: Callable[..., Any], refusal: Callable[[str], Any]) -> Callable[..., Any]:
        """Return `work` as a moving slider calls it: what cannot be is an answer too, `refusal` of its sentence.

        A slider does without gradio's queue, and outside it the page shows no message of an error.
        """
        guarded = self.guarded(work)

        @functools.wraps(work)
        async def answer(*arguments: Any) -> Any:
            try:
                return await guarded(*arguments)
            except gr.Error as error:
                return refusal(error.message)

        return answer


def _visible(message: str, *, printed: bool = False) -> gr.Error:
    """Return the error that the page shows, its message escaped: gradio shows messages as HTML.

    Args:
        printed: whether the one who runs the demo is to see what it came of.
    """
    sentence = message[:1].upper() + message[1:] if _WORD.match(message) else message
    return gr.Error(html.escape(sentence, quote=False), duration=8, title="Not possible", print_exception=printed)
