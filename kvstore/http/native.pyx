# cython: language_level=3, binding=False
"""The shortest way for what nearly every request and answer look like; compiled, and optional (shortcut.py).

A shortcut either gives exactly what the general functions give, or None: then those decide. So it knows the plain
shapes alone: one clean key, a form with one value; a file without expiration. Every mistake of a client, and every
rarer shape, is the general functions' to see. All offsets stay within the bytes object that was given.

What memory is read or written by goes by types that are looked at here, never by what a caller promises.
tests/http/test_shortcut.py holds all of it against the general functions.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy

from kvstore.http.texts import quote
from kvstore.http.v2.parameters import DEFAULTS, KeyRequest
from kvstore.limits import IN_ORDER_BYTES
from kvstore.store.events import CREATE, SET, Event, NodeView

cdef extern from "string.h":
    void *memmem(const void *haystack, size_t haystack_size, const void *needle, size_t size) nogil

ctypedef const unsigned char *Octets

cdef extern from *:
    """
    /* type(*head, *tail) for a subclass of tuple, as tuple.__new__ makes it, but without the tuple in between */
    static PyObject *named_tuple(PyObject *type, PyObject *head, PyObject *tail) {
        Py_ssize_t first = PyTuple_GET_SIZE(head), size = first + PyTuple_GET_SIZE(tail);
        PyObject *made = ((PyTypeObject *) type)->tp_alloc((PyTypeObject *) type, size);
    #if PY_VERSION_HEX >= 0x030E0000
        if (made != NULL)
            ((PyTupleObject *) made)->ob_hash = -1; /* not known yet; a 0 would be taken for its hash */
    #endif
        for (Py_ssize_t at = 0; made != NULL && at < size; at++) {
            PyObject *item = at < first ? PyTuple_GET_ITEM(head, at) : PyTuple_GET_ITEM(tail, at - first);
            Py_INCREF(item);
            PyTuple_SET_ITEM(made, at, item);
        }
        return made;
    }
    """
    object named_tuple(object type, tuple head, tuple tail)

cdef tuple _DEFAULTS = DEFAULTS
cdef object _KeyRequest = KeyRequest
cdef object _Event = Event
cdef object _NodeView = NodeView
cdef object _quote = quote
cdef str _CREATE = CREATE
cdef str _SET = SET
cdef bytes _NOTHING = b""
cdef Py_ssize_t _IN_ORDER_BYTES = IN_ORDER_BYTES

cdef unsigned char _in_path[256]  # may stand in a component of a path as it is; heads.LINE says the same
cdef unsigned char _in_query[256]
cdef unsigned char _in_json[256]  # may stand in a JSON string as it is
cdef signed char _digit[256]


cdef _fill_tables():
    for at in range(256):
        _in_path[at] = at in b"!$&'()*+,-.0123456789:;=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
        _in_query[at] = at in b"!$%&'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
        _in_json[at] = 0x20 <= at < 0x80 and at not in b'"\\<>&'
        _digit[at] = int(chr(at), 16) if at in b"0123456789abcdefABCDEF" else -1


_fill_tables()


# --- requests -----------------------------------------------------------------------------------------------------


def take(
    bytes rest not None,
    Py_ssize_t at,
    dict heads not None,
    dict queries not None,
    Py_ssize_t max_head,
    Py_ssize_t max_body,
    Py_ssize_t max_key,
    Py_ssize_t max_components,
):
    """One whole request that begins at `at`: (where it ends, the KeyRequest), or None.

    `heads` are judged blocks of header lines, `queries` what follows the key in a GET's KeyRequest, by query.
    """
    cdef Octets start = <Octets> PyBytes_AS_STRING(rest)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(rest)
    cdef Octets end = start + size
    cdef Octets here, key, key_end, query = NULL, query_end = NULL, lines, body
    cdef str method
    cdef bint has_body = False
    cdef Py_ssize_t length, components = 0
    cdef tuple known, tail = _DEFAULTS
    cdef bytes value = _NOTHING
    if at < 0 or size - at < 32:  # no request is shorter, and what is compared first lies within
        return None
    here = start + at
    if memcmp(here, b"GET ", 4) == 0:
        method = "GET"
        here += 4
    elif memcmp(here, b"PUT ", 4) == 0:
        method = "PUT"
        has_body = True
        here += 4
    elif memcmp(here, b"POST ", 5) == 0:
        method = "POST"
        has_body = True
        here += 5
        components = 1  # it creates a key below the one that is named
        max_key -= _IN_ORDER_BYTES
    elif memcmp(here, b"DELETE ", 7) == 0:
        method = "DELETE"
        here += 7
    else:
        return None
    if memcmp(here, b"/v2/keys/", 9) != 0:
        return None
    here += 8
    key = here
    while here < end and here[0] == c"/":
        here += 1
        components += 1
        if here == end or here[0] == c"." or not _in_path[here[0]]:  # also an empty component
            return None
        while here < end and _in_path[here[0]]:
            here += 1
    key_end = here
    if components > max_components or key_end - key > max_key:
        return None
    if here < end and here[0] == c"?":
        if method != "GET":
            return None
        here += 1
        query = here
        while here < end and _in_query[here[0]]:
            here += 1
        query_end = here
    if end - here < 13 or memcmp(here, b" HTTP/1.1\r\n", 11) != 0:
        return None
    lines = here + 9
    body = <Octets> memmem(lines, end - lines, b"\r\n\r\n", 4)
    if body == NULL or body + 4 - start - at > max_head:
        return None
    head = heads.get(rest[lines - start : body - start])
    if head is None:
        return None
    body += 4
    length = head[0]
    if length:
        if not has_body or not head[1] or length > max_body or length > end - body:
            return None
        value = _value(body, length)
        if value is None:
            return None
    elif query != NULL:
        known = queries.get(rest[query - start : query_end - start])
        if known is None:
            return None
        value = known[0]
        tail = <tuple?> known[1]
    name = PyBytes_FromStringAndSize(<const char *> key, key_end - key)
    return body + length - start, named_tuple(_KeyRequest, (method, name, value), tail)


cdef bytes _value(Octets form, Py_ssize_t size):
    """The value of a form that has nothing else; None for any other, and for an escape that is none."""
    if size < 6 or memcmp(form, b"value=", 6) != 0:
        return None
    cdef Octets text = form + 6
    cdef Octets end = form + size
    size -= 6
    if memchr(text, c"&", size) != NULL or memchr(text, c";", size) != NULL:
        return None
    if memchr(text, c"%", size) == NULL and memchr(text, c"+", size) == NULL:
        return PyBytes_FromStringAndSize(<const char *> text, size)
    cdef bytes value = PyBytes_FromStringAndSize(NULL, size)
    cdef unsigned char *out = <unsigned char *> PyBytes_AS_STRING(value)
    cdef Py_ssize_t written = 0
    while text < end:
        if text[0] == c"%":
            if end - text < 3 or _digit[text[1]] < 0 or _digit[text[2]] < 0:
                return None
            out[written] = <unsigned char> (_digit[text[1]] * 16 + _digit[text[2]])
            text += 3
        else:
            out[written] = c" " if text[0] == c"+" else text[0]
            text += 1
        written += 1
    return value[:written]


# --- answers ------------------------------------------------------------------------------------------------------


cdef int _digits(unsigned long long number) noexcept:
    cdef int count = 1
    while number > 9:
        number //= 10
        count += 1
    return count


cdef char *_number(char *out, unsigned long long number) noexcept:
    cdef char *end = out + _digits(number)
    out = end
    while True:
        out -= 1
        out[0] = <char> (48 + number % 10)
        number //= 10
        if number == 0:
            return end


cdef inline char *_copy(char *out, bytes text) noexcept:
    return _literal(out, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef inline char *_literal(char *out, const char *text, Py_ssize_t size) noexcept:
    memcpy(out, text, size)
    return out + size


cdef bytes _quoted(bytes text):
    cdef Octets here = <Octets> PyBytes_AS_STRING(text)
    cdef Octets end = here + PyBytes_GET_SIZE(text)
    cdef unsigned char is_plain = 1
    while here < end:  # to the end, without a branch: that is the quickest
        is_plain &= _in_json[here[0]]
        here += 1
    return text if is_plain else _quote(text)


cdef class _File:
    """What JSON says of a file."""

    cdef bytes key
    cdef bytes value
    cdef unsigned long long modified
    cdef unsigned long long created

    cdef Py_ssize_t size(self):
        return (
            54
            + PyBytes_GET_SIZE(self.key)
            + PyBytes_GET_SIZE(self.value)
            + _digits(self.modified)
            + _digits(self.created)
        )

    cdef char *write(self, char *out):
        out = _literal(out, b'{"key":"', 8)
        out = _copy(out, self.key)
        out = _literal(out, b'","value":"', 11)
        out = _copy(out, self.value)
        out = _literal(out, b'","modifiedIndex":', 18)
        out = _number(out, self.modified)
        out = _literal(out, b',"createdIndex":', 16)
        out = _number(out, self.created)
        return _literal(out, b"}", 1)


cdef _File _file(named):
    """None for anything but a file that is for ever. Raises OverflowError as `_compose` does."""
    if type(named) is not _NodeView:
        return None
    cdef tuple view = <tuple> named
    key, value = view[0], view[1]
    if type(key) is not bytes or type(value) is not bytes or view[5] is not None or view[7] is not None or not view[3]:
        return None
    cdef _File file = _File.__new__(_File)
    file.key = _quoted(key)
    file.value = _quoted(value)
    file.created = view[3]
    file.modified = view[4]
    return file


def compose_event(
    named, bytes head not None, bytes created_head not None, raft_index, raft_term, bytes date not None
):
    """The whole answer to a write: `head` goes up to the number of X-Etcd-Index, `created_head` is that of a 201,
    `date` the whole line. Or None."""
    if type(named) is not _Event:
        return None
    cdef _File file, before = None
    cdef tuple event = <tuple> named
    action, previous = event[0], event[2]
    try:
        file = _file(event[1])
        if file is None:
            return None
        if previous is not None:
            before = _file(previous)
            if before is None:
                return None
        elif action == _SET:
            head = created_head
        if action == _CREATE:
            head = created_head
        return _compose(head, event[3], raft_index, raft_term, date, action.encode(), file, before)
    except OverflowError:
        return None


def compose_view(view, bytes head not None, index, raft_index, raft_term, bytes date not None):
    """The whole answer to a read. Or None."""
    cdef _File file
    try:
        file = _file(view)
        return None if file is None else _compose(head, index, raft_index, raft_term, date, b"get", file, None)
    except OverflowError:
        return None


cdef bytes _compose(
    bytes head,
    unsigned long long index,
    unsigned long long raft_index,
    unsigned long long raft_term,
    bytes date,
    bytes action,
    _File file,
    _File before,
):
    """Raises OverflowError for a number that has no place in 64 bits, or is below zero."""
    cdef Py_ssize_t body = 22 + PyBytes_GET_SIZE(action) + file.size()
    if before is not None:
        body += 12 + before.size()
    cdef Py_ssize_t size = 53 + _digits(index) + _digits(raft_index) + _digits(raft_term) + _digits(body) + body
    size += PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(date)
    cdef bytes answer = PyBytes_FromStringAndSize(NULL, size)
    cdef char *start = PyBytes_AS_STRING(answer)
    cdef char *out = _copy(start, head)
    out = _number(out, index)
    out = _literal(out, b"\r\nX-Raft-Index: ", 16)
    out = _number(out, raft_index)
    out = _literal(out, b"\r\nX-Raft-Term: ", 15)
    out = _number(out, raft_term)
    out = _literal(out, b"\r\n", 2)
    out = _copy(out, date)
    out = _literal(out, b"Content-Length: ", 16)
    out = _number(out, body)
    out = _literal(out, b"\r\n\r\n", 4)
    out = _literal(out, b'{"action":"', 11)
    out = _copy(out, action)
    out = _literal(out, b'","node":', 9)  # 9 and 11 and the last 2: 22
    out = file.write(out)
    if before is not None:
        out = _literal(out, b',"prevNode":', 12)
        out = before.write(out)
    out = _literal(out, b"}\n", 2)
    assert out - start == size
    return answer
