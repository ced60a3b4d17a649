"""Go's syntax of flags, numbers and durations, where the table does not reach."""

from __future__ import annotations

import pytest

from kvctl.flags import MANY, NUMBER, SECONDS, SWITCH, TEXT, Flag, Values, parse
from kvstore.goflags import FlagError

FLAGS = (
    Flag("switch, s", "", SWITCH),
    Flag("text", "", TEXT, "before"),
    Flag("number, n", "", NUMBER),
    Flag("seconds", "", SECONDS, 2.0),
    Flag("many", "", MANY),
)


def read(*arguments: str) -> Values:
    rest = list(arguments)
    values = parse(rest, FLAGS)
    assert rest == []
    return values


def test_defaults_and_what_was_given() -> None:
    values = read("-n", "3", "--many", "a,b", "-many=c")
    assert (values.switch("switch"), values.text("text"), values.seconds("seconds")) == (False, "before", 2.0)
    assert (values.number("number"), values.many("many")) == (3, ("a,b", "c"))
    assert (values.is_given("number"), values.is_given("text")) == (True, False)


@pytest.mark.parametrize(
    ("text", "number"),
    {
        "0": 0,
        "+7": 7,
        "-0x1F": -31,
        "0b101": 5,
        "0o17": 15,
        "017": 15,
        "1_000": 1000,
        "0x_ff": 255,
        "0_7": 7,
        "9223372036854775807": (1 << 63) - 1,
        "-9223372036854775808": -(1 << 63),
    }.items(),
)
def test_numbers(text: str, number: int) -> None:
    assert read(f"--number={text}").number("number") == number


@pytest.mark.parametrize("text", ["", "-", "x", "1.0", "1 ", "_1", "1__0", "1_", "08", "0x", "0b2", "९", "--1"])
def test_no_numbers(text: str) -> None:
    with pytest.raises(FlagError) as caught:
        read(f"--number={text}")
    assert str(caught.value) == f'invalid value "{text}" for flag -number: parse error'


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", "0x" + "f" * 40])
def test_numbers_beyond_64_bits(text: str) -> None:
    with pytest.raises(FlagError, match="value out of range"):
        read(f"-n={text}")


@pytest.mark.parametrize(
    ("text", "seconds"),
    {"0": 0.0, "2s": 2.0, "1m30s": 90.0, "-1.5h": -5400.0, "+100ms": 0.1, ".5s": 0.5, "3us": 3e-6, "3µs": 3e-6}.items(),
)
def test_durations(text: str, seconds: float) -> None:
    assert read(f"--seconds={text}").seconds("seconds") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-", "5", "s", "1x", "1s ", "1 s", "1.s.", "9999999999999h", "1d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(FlagError, match=r"invalid value .* for flag -seconds: parse error"):
        read(f"--seconds={text}")
