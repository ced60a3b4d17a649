# cython: language_level=3, binding=False
"""Reads what members say to each other most: an append of entries, and a set; compiled, and optional (wire.py).

Each function gives exactly what wire.py would, checks included, or None: then wire.py decides. Every look at a byte
is behind a look at how many are left.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM

from kvstore.raft.types import AppendRequest, Entry
from kvstore.store.operations import Set

cdef extern from *:
    """
    static PyObject *empty_record(PyObject *type, Py_ssize_t size) { /* of a NamedTuple; its items are still to be set */
        PyObject *made = ((PyTypeObject *) type)->tp_alloc((PyTypeObject *) type, size);
    #if PY_VERSION_HEX >= 0x030E0000
        if (made != NULL)
            ((PyTupleObject *) made)->ob_hash = -1; /* not known yet; a 0 would be taken for its hash */
    #endif
        return made;
    }
    """
    object empty_record(object type, Py_ssize_t size)

cdef object _AppendRequest = AppendRequest
cdef object _Entry = Entry
cdef object _Set = Set

cdef enum:
    LEAST_ENTRY = 6  # bytes of the shortest one


cdef struct Reader:
    const unsigned char *here
    const unsigned char *end
    bint failed  # something was not there, or not what was expected: what was read since means nothing


cdef unsigned long long _number(Reader *reader) noexcept:
    if reader.here >= reader.end:
        reader.failed = True
        return 0
    cdef unsigned char first = reader.here[0]
    reader.here += 1
    if first < 0x80:
        return first
    if first < 0xCC or first > 0xCF:
        reader.failed = True
        return 0
    return _big_endian(reader, 1 << (first - 0xCC))


cdef unsigned long long _big_endian(Reader *reader, int size) noexcept:
    cdef unsigned long long number = 0
    cdef int at
    if reader.end - reader.here < size:
        reader.failed = True
        return 0
    for at in range(size):
        number = number << 8 | reader.here[at]
    reader.here += size
    return number


cdef bytes _octets(Reader *reader):
    cdef Py_ssize_t size
    cdef unsigned char first
    if reader.failed or reader.here >= reader.end:
        reader.failed = True
        return b""
    first = reader.here[0]
    reader.here += 1
    if first < 0xC4 or first > 0xC6:
        reader.failed = True
        return b""
    size = _big_endian(reader, 1 << (first - 0xC4))
    if reader.failed or reader.end - reader.here < size:
        reader.failed = True
        return b""
    reader.here += size
    return PyBytes_FromStringAndSize(<const char *> reader.here - size, size)


cdef Py_ssize_t _array(Reader *reader) noexcept:
    """How many items follow."""
    cdef unsigned char first
    if reader.here >= reader.end:
        reader.failed = True
        return 0
    first = reader.here[0]
    reader.here += 1
    if 0x90 <= first <= 0x9F:
        return first - 0x90
    if first == 0xDC:
        return _big_endian(reader, 2)
    if first == 0xDD:
        return _big_endian(reader, 4)
    reader.failed = True
    return 0


cdef inline void _put(object record, Py_ssize_t at, object item):
    Py_INCREF(item)
    PyTuple_SET_ITEM(record, at, item)


def unpack_append(bytes frame not None):
    """An AppendRequest with its entries, in their order."""
    cdef Reader reader
    cdef unsigned long long to, sender, term, prev_index, prev_term, commit
    cdef object append
    cdef tuple entries
    reader.here = <const unsigned char *> PyBytes_AS_STRING(frame)
    reader.end = reader.here + PyBytes_GET_SIZE(frame)
    reader.failed = False
    if _array(&reader) != 7 or _number(&reader) != 0:  # the tag
        return None
    to = _number(&reader)
    sender = _number(&reader)
    term = _number(&reader)
    prev_index = _number(&reader)
    prev_term = _number(&reader)
    commit = _number(&reader)
    if reader.failed:
        return None
    entries = _entries(&reader, prev_index, prev_term, term)
    if entries is None or reader.here != reader.end:
        return None
    append = empty_record(_AppendRequest, 7)
    _put(append, 0, to)
    _put(append, 1, sender)
    _put(append, 2, term)
    _put(append, 3, prev_index)
    _put(append, 4, prev_term)
    _put(append, 5, entries)
    _put(append, 6, commit)
    return append


cdef tuple _entries(Reader *reader, unsigned long long index, unsigned long long term, unsigned long long highest):
    """Those behind `index` and `term`, up to the term `highest`."""
    cdef Py_ssize_t count = _array(reader), at
    cdef unsigned long long found, kind
    cdef object entry, shared_term = term, payload
    cdef list entries = []
    if reader.failed or count > (reader.end - reader.here) // LEAST_ENTRY:
        return None
    for at in range(count):
        if _array(reader) != 4:
            return None
        index += 1
        if _number(reader) != index or index == 0:
            return None
        found = _number(reader)
        if found < term or found > highest:
            return None
        if found != term:
            term = found
            shared_term = term
        kind = _number(reader)
        payload = _octets(reader)
        if reader.failed or kind > 1:
            return None
        entry = empty_record(_Entry, 4)
        _put(entry, 0, index)
        _put(entry, 1, shared_term)
        _put(entry, 2, kind)
        _put(entry, 3, payload)
        entries.append(entry)
    return tuple(entries)


def unpack_set(bytes payload not None, Py_ssize_t at):
    """The request and the Set that stand at `at`, and nothing behind them."""
    cdef Reader reader
    cdef unsigned long long request
    cdef object command, ttl
    cdef bytes key, value
    cdef bint is_dir, refresh
    if at < 0 or at > PyBytes_GET_SIZE(payload):
        return None
    reader.here = <const unsigned char *> PyBytes_AS_STRING(payload) + at
    reader.end = <const unsigned char *> PyBytes_AS_STRING(payload) + PyBytes_GET_SIZE(payload)
    reader.failed = False
    if _array(&reader) != 7 or _number(&reader) != 0:  # the tag
        return None
    request = _number(&reader)
    key = _octets(&reader)
    value = _octets(&reader)
    is_dir = _flag(&reader)
    if not reader.failed and reader.here < reader.end and reader.here[0] == 0xC0:
        reader.here += 1
        ttl = None
    else:
        ttl = _number(&reader)
    refresh = _flag(&reader)
    if reader.failed or reader.here != reader.end:
        return None
    command = empty_record(_Set, 5)
    _put(command, 0, key)
    _put(command, 1, value)
    _put(command, 2, is_dir)
    _put(command, 3, ttl)
    _put(command, 4, refresh)
    return request, command


cdef bint _flag(Reader *reader) noexcept:
    if reader.failed or reader.here >= reader.end or reader.here[0] < 0xC2 or reader.here[0] > 0xC3:
        reader.failed = True
        return False
    reader.here += 1
    return reader.here[-1] == 0xC3
