"""Attacks on JSON: keys that stand twice, depth, endless numbers, and what a parser makes of few bytes."""

from __future__ import annotations

import json
import random
import time
import tracemalloc

import pytest

from limpq_hub import Indicators, Policy
from limpq_hub.errors import ArtifactFormatError, PolicyError
from limpq_hub.plan.input_file import TEXT_BYTES
from limpq_hub.plan.jsonfile import parse_json


def members(count: int, twice: int | None, last: bool) -> bytes:
    """An object of so many keys, one of which stands twice: far apart, or side by side at the end."""
    keys = [f'"k{number}":0' for number in range(count)]
    if twice is not None:
        keys.append(keys[-1] if last else keys[twice])
    return ("{" + ",".join(keys) + "}").encode()


@pytest.mark.parametrize("count", [2, 10, 1000, 100_000])
@pytest.mark.parametrize("last", [False, True])
def test_a_key_that_stands_twice_is_named_and_found_in_linear_time(count, last):
    began = time.process_time()
    with pytest.raises(ArtifactFormatError) as caught:
        parse_json(members(count, 0, last), "x.json")
    assert str(caught.value) == f"x.json: the key 'k{count - 1 if last else 0}' stands twice; keep one"
    assert time.process_time() - began < 0.1 + 10e-6 * count


def test_many_keys_that_stand_twice_take_no_longer():
    data = ("{" + ",".join(f'"k{number}":0,"k{number}":0' for number in range(50_000)) + "}").encode()
    began = time.process_time()
    with pytest.raises(ArtifactFormatError, match="the key 'k0' stands twice"):
        parse_json(data, "x.json")
    assert time.process_time() - began < 1


@pytest.mark.parametrize("key", ["\\u001b[2J", "\\n", "\\ud800", "a" * 10_000])
def test_the_key_is_quoted_without_what_a_terminal_would_act_on(key):
    with pytest.raises(ArtifactFormatError) as caught:
        parse_json(f'{{"{key}":0,"{key}":0}}', "x.json")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"1e9,", b'"",', b"[[]],", b"12345678901,"])
def test_what_is_parsed_takes_little_more_memory_than_the_limit_of_a_file_warrants(piece):
    data = b"[" + piece * (2**20 // len(piece)) + b"0]"
    tracemalloc.start()
    parse_json(data, "x.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / len(data) * TEXT_BYTES < 1.2 * 2**30


def mutated(content: object, random_: random.Random) -> object:
    """The same JSON with one value changed, taken out, or nested in itself."""
    evil = [None, True, -1, 0, 10**400, 1e308, -1e308, 5e-324, "", "\x1b[31m", "a" * 5000, [], {}, [[[]]], {"": 0}]
    if isinstance(content, dict) and content and random_.random() < 0.9:
        key = random_.choice(list(content))
        way = random_.random()
        if way < 0.1:
            return {name: value for name, value in content.items() if name != key}
        if way < 0.2:
            return {**content, random_.choice(["", "\0", "__proto__", "x" * 300]): random_.choice(evil)}
        return {**content, key: mutated(content[key], random_)}
    if isinstance(content, list) and content and random_.random() < 0.9:
        place = random_.randrange(len(content))
        return [*content[:place], mutated(content[place], random_), *content[place + 1 :]]
    return random_.choice([*evil, [content], {"a": content}])


def refused_or_read(seeds: range, content: object, read) -> int:
    """Return how many of so many mutations were refused; a mutation is read or refused in one line, never else."""
    errors = []
    for seed in seeds:
        data = json.dumps(mutated(content, random.Random(seed)))
        try:
            read(parse_json(data, "x.json"))
        except (ArtifactFormatError, PolicyError) as error:
            errors.append(str(error))
    assert not [error for error in errors if "\n" in error or len(error) > 1000]
    return len(errors)


def indicators_of(content: object) -> None:
    Indicators.from_json(content, "x.json").bitops_range()


@pytest.mark.parametrize("kind", ["indicators", "policy"])
def test_a_mutated_file_is_read_or_refused_in_one_line(tiny, kind):
    content = tiny.indicators.to_json() if kind == "indicators" else tiny.policies["small"].to_json()
    read = indicators_of if kind == "indicators" else Policy.from_json
    assert refused_or_read(range(300), content, read) > 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["indicators", "policy"])
def test_thousands_of_mutated_files_are_read_or_refused_in_one_line(tiny, kind):
    content = tiny.indicators.to_json() if kind == "indicators" else tiny.policies["small"].to_json()
    read = indicators_of if kind == "indicators" else Policy.from_json
    assert refused_or_read(range(300, 10_000), content, read) > 7000
