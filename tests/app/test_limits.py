"""Tests of the limits of a call: time, places in line, and errors that a visitor may read."""

import asyncio
import errno
import threading
import time

import gradio as gr
import pytest
from _limits import GivenUp, Limiter, stop_if_given_up

from limpq_hub.errors import ImageError, SearchError
from limpq_hub.plan.deadline import NotInTimeError


def called(guarded, *arguments):
    """What a coroutine gives, as the server waits for it."""
    return asyncio.run(guarded(*arguments))


def test_a_call_gives_what_the_work_gives():
    limiter = Limiter(5, workers=2, most_waiting=2)
    assert called(limiter.guarded(lambda one, other: one + other), 1, 2) == 3


def test_a_call_that_takes_too_long_is_given_up_in_a_sentence():
    free = threading.Event()
    limiter = Limiter(0.1, workers=1, most_waiting=2)
    began = time.perf_counter()
    with pytest.raises(gr.Error) as caught:
        called(limiter.guarded(free.wait), 10)
    free.set()
    assert time.perf_counter() - began < 5
    assert caught.value.message == "This took more than 0.1 s and was given up; try again later"


def test_more_calls_than_there_are_places_are_refused_and_later_ones_are_not():
    free, limiter = threading.Event(), Limiter(5, workers=1, most_waiting=1)
    guarded = limiter.guarded(lambda: free.wait(5))
    thread = threading.Thread(target=called, args=[guarded])
    thread.start()
    while limiter._places._value:
        time.sleep(0.01)
    with pytest.raises(gr.Error) as caught:
        called(guarded)
    assert caught.value.message == "Too many visitors at once; try again in a few seconds"
    free.set()
    thread.join()
    assert called(guarded)


def test_errors_of_the_package_are_one_sentence_without_markup_and_without_a_traceback():
    def work():
        raise ImageError("the file <img src=x onerror=alert(1)> & co is none")

    with pytest.raises(gr.Error) as caught:
        called(Limiter(5, workers=1, most_waiting=1).guarded(work))
    assert caught.value.message == "The file &lt;img src=x onerror=alert(1)&gt; &amp; co is none"
    assert not caught.value.print_exception


@pytest.mark.parametrize("error", [SearchError("HiGHS gave up"), NotInTimeError("late; raise time_limit_s=")], ids=repr)
def test_a_search_without_an_answer_is_told_with_what_a_visitor_can_do(error):
    def work():
        raise error

    with pytest.raises(gr.Error) as caught:
        called(Limiter(5, workers=1, most_waiting=1).guarded(work))
    late = "No proven optimum in time; raise the budget, pin fewer layers, or run it on your machine"
    failed = "The search failed; try a slightly other budget, or run it on your machine"
    is_fault = type(error) is SearchError
    assert caught.value.message == (failed if is_fault else late)
    assert caught.value.print_exception == is_fault, "who runs the demo is to see a fault"


ROOM = "The server has no room for this now; try again later"
FILE = "The server could not read or write a file; upload yours again, or try again later"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/secret"), ROOM),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/tmp/secret"), ROOM),
        (OSError(errno.EMFILE, "Too many open files"), ROOM),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ROOM),
        (MemoryError(), ROOM),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/tmp/secret"), FILE),
        (PermissionError(errno.EACCES, "Permission denied", "/tmp/secret"), FILE),
        (OSError("what no number tells, of /tmp/secret"), FILE),
    ],
    ids=repr,
)
def test_a_full_disk_and_what_else_fails_with_files_are_told_apart_and_without_a_path(error, message):
    def work():
        raise error

    with pytest.raises(gr.Error) as caught:
        called(Limiter(5, workers=1, most_waiting=1).guarded(work))
    assert caught.value.message == message
    assert caught.value.print_exception == (message == FILE), "who runs the demo is to see what was not expected"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the picture is damaged", "The picture is damaged"),
        ("not fetched: you/tiny@main is none", "Not fetched: you/tiny@main is none"),
        ("fine-tuned weights are missing", "Fine-tuned weights are missing"),
        ("pin 'conv1' matches no searched layer", "Pin 'conv1' matches no searched layer"),
        ('bitops="3G" cannot be met', 'bitops="3G" cannot be met'),
        ("alpha=nan cannot be", "alpha=nan cannot be"),
        ("hf-hub:you/tiny took more than 60 s", "hf-hub:you/tiny took more than 60 s"),
        ("indicators.json does not fit", "indicators.json does not fit"),
        ("resnet18.tiny_imagenet has no weights", "resnet18.tiny_imagenet has no weights"),
        ("layer4.0.conv1 has no bits", "layer4.0.conv1 has no bits"),
        ("'layer4' is not a pin", "'layer4' is not a pin"),
        ("", ""),
    ],
)
def test_a_sentence_begins_with_a_capital_and_what_is_to_be_typed_stays_as_it_is(message, shown):
    def work():
        raise ImageError(message)

    with pytest.raises(gr.Error) as caught:
        called(Limiter(5, workers=1, most_waiting=1).guarded(work))
    assert caught.value.message == shown


def test_where_the_page_shows_no_errors_a_refusal_is_the_answer():
    def work(size):
        if size < 1:
            raise ImageError("a size of <0> cannot be")
        return size

    answered = Limiter(5, workers=1, most_waiting=1).answered(work, lambda sentence: ("", sentence))
    assert called(answered, 3) == 3
    assert called(answered, 0) == ("", "A size of &lt;0&gt; cannot be")


def test_many_waiting_calls_keep_no_thread_of_the_server():
    free, limiter = threading.Event(), Limiter(5, workers=1, most_waiting=50)
    guarded = limiter.guarded(lambda: free.wait(5))

    async def visits():
        waiting = [asyncio.create_task(guarded()) for _ in range(50)]
        await asyncio.sleep(0.05)
        threads = threading.active_count()
        free.set()
        return threads, await asyncio.gather(*waiting)

    before = threading.active_count()
    threads, answers = asyncio.run(visits())
    assert threads <= before + 1
    assert answers == [True] * 50


def test_work_that_nobody_waits_for_ends_at_its_next_step():
    steps: list[float] = []

    def work():
        while len(steps) < 1000:
            stop_if_given_up()
            steps.append(time.perf_counter())
            time.sleep(0.01)

    limiter = Limiter(0.2, workers=1, most_waiting=2)
    with pytest.raises(gr.Error, match="given up"):
        called(limiter.guarded(work))
    # The only thread is free again.
    assert called(limiter.guarded(lambda: "next")) == "next"
    assert len(steps) < 100
    stop_if_given_up()


def test_work_of_a_visitor_who_went_away_ends_at_its_next_step():
    ended = threading.Event()

    def work():
        try:
            while True:
                stop_if_given_up()
                time.sleep(0.01)
        except GivenUp:
            ended.set()
            raise

    async def visit():
        call = asyncio.create_task(Limiter(60, workers=1, most_waiting=2).guarded(work)())
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(visit())
    assert ended.wait(5)
