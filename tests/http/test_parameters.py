"""The checks in etcd's order: each form holds one mistake more than the next."""

from __future__ import annotations

import time

import pytest

from kvstore.http.errors import ApiError
from kvstore.http.v2.parameters import KeyRequest, parse_key_request, wants_body

# Every mistake there is, in the order in which they are reported; later ones need the earlier ones away.
MISTAKES = [
    ("prevIndex=x", 203, 'invalid value for "prevIndex"'),
    ("waitIndex=x", 203, 'invalid value for "waitIndex"'),
    ("recursive=x", 209, 'invalid value for "recursive"'),
    ("sorted=x", 209, 'invalid value for "sorted"'),
    ("wait=x", 209, 'invalid value for "wait"'),
    ("dir=x", 209, 'invalid value for "dir"'),
    ("quorum=x", 209, 'invalid value for "quorum"'),
    ("stream=x", 209, 'invalid value for "stream"'),
    ("wait=true", 209, '"wait" can only be used with GET requests'),
    ("prevValue=", 201, '"prevValue" cannot be empty'),
    ("noValueOnSuccess=x", 209, 'invalid value for "noValueOnSuccess"'),
    ("ttl=x", 202, 'invalid value for "ttl"'),
    ("prevExist=x", 209, "invalid value for prevExist"),
    ("refresh=x", 209, "invalid value for refresh"),
    ("refresh=true&value=v", 211, "A value was provided on a refresh"),
    ("refresh=true", 212, "No TTL value set"),
]


def parse(method: str, query: str = "", body: str = "", path: str = "/v2/keys/a") -> KeyRequest:
    return parse_key_request(method, path.encode(), query.encode(), body.encode())


@pytest.mark.parametrize("first", range(len(MISTAKES)))
@pytest.mark.parametrize("where", ["query", "body"])
def test_the_first_mistake_is_reported(first: int, where: str) -> None:
    names = set()
    fields = []
    for mistake, _, _ in MISTAKES[first:]:
        for field in mistake.split("&"):
            if field.split("=")[0] not in names:
                names.add(field.split("=")[0])
                fields.append(field)
    form = "&".join(reversed(fields))  # their order in the form plays no part
    with pytest.raises(ApiError) as caught:
        parse("PUT", **{where: form})
    assert (caught.value.code, caught.value.cause.decode()) == MISTAKES[first][1:]
    assert caught.value.index == 0


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"])
def test_spellings_of_booleans(text: str) -> None:
    assert parse("GET", f"recursive={text}").recursive is (text[0] in "1tT")


@pytest.mark.parametrize("text", ["", "yes", "tRue", " true", "2"])
def test_what_is_no_boolean(text: str) -> None:
    with pytest.raises(ApiError):
        parse("GET", f"sorted={text}")


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("007", 7), ("18446744073709551615", (1 << 64) - 1), ("0" * 40 + "1", 1)]
)
def test_numbers(text: str, number: int) -> None:
    assert parse("PUT", f"prevIndex={text}").previous_index == number
    assert parse("PUT", f"ttl={text}").ttl == number


@pytest.mark.parametrize(
    "text", ["-1", "%2B1", "1.5", "1e3", "0x1", "%201", "1_0", "18446744073709551616", "9" * 5000, "%D9%A1"]
)
def test_what_is_no_number(text: str) -> None:
    for name in ("prevIndex", "waitIndex", "ttl"):
        with pytest.raises(ApiError):
            parse("GET", f"{name}={text}")


def test_an_empty_ttl_is_none_but_an_empty_index_is_an_error() -> None:
    assert parse("PUT", "ttl=").ttl is None
    with pytest.raises(ApiError):
        parse("PUT", "prevIndex=")


def test_body_before_query() -> None:
    assert parse("PUT", "value=query", "value=body").value == b"body"
    assert parse("PUT", "value=query&dir=true", "value=").value == b""
    assert parse("PUT", "value=query&dir=true", "value=").is_dir
    assert parse("PUT", "value=one&value=two").value == b"one"
    with pytest.raises(ApiError) as caught:
        parse("PUT", "a=%zz", "a;b")
    assert caught.value.cause == b"invalid semicolon separator in query"


@pytest.mark.parametrize(
    ("path", "key"),
    [("/v2/keys", b"/"), ("/v2/keys/", b"/"), ("/v2/keys/a/", b"/a"), ("/v2/keys/a/b", b"/a/b")],
)
def test_keys(path: str, key: bytes) -> None:
    assert parse("GET", path=path).key == key


def test_the_body_counts_for_put_and_post_of_forms_only() -> None:
    form = b"application/x-www-form-urlencoded"
    assert [wants_body(method, form) for method in ("GET", "HEAD", "DELETE", "PUT", "POST")] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert not wants_body("PUT", b"application/json")
    assert not wants_body("GET", b";")
    with pytest.raises(ApiError) as caught:
        wants_body("PUT", b";")
    assert (caught.value.code, caught.value.cause) == (210, b"mime: no media type")


@pytest.mark.parametrize(("text", "number"), [("0" * 9_000_000, 0), ("0" * 9_000_000 + "7", 7), ("0", 0), ("00", 0)])
def test_leading_zeros_cost_no_more_than_their_length(text: str, number: int) -> None:
    begin = time.thread_time()
    assert parse("PUT", body=f"prevIndex={text}").previous_index == number
    for broken in (text + "a", text + "-1", text + "184467440737095516160"):
        with pytest.raises(ApiError):
            parse("PUT", body=f"prevIndex={broken}")
    assert time.thread_time() - begin < 0.5
