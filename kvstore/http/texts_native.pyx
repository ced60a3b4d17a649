# cython: language_level=3, binding=False, boundscheck=False, wraparound=False
"""Escapes of JSON and of URLs in one pass each, without the interpreter where the text is long; optional (texts.py).

Both give exactly what texts.py gives. tests/http/test_texts.py holds them against the definition in plain words.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcpy

ctypedef const unsigned char *Octets

#: A longer text lets other threads run meanwhile.
cdef Py_ssize_t _LONG = 64 << 10

cdef unsigned char _length[256]  # of what a byte becomes in JSON; 0: it begins a character beyond ASCII, or none
cdef unsigned char _short[256]  # the letter of an escape of two bytes
cdef signed char _digit[256]


cdef _fill_tables():
    for at in range(256):
        _length[at] = 1 if 0x20 <= at < 0x80 else 6 if at < 0x80 else 0
        _digit[at] = int(chr(at), 16) if at in b"0123456789abcdefABCDEF" else -1
        _short[at] = 0
    for at in b"<>&":
        _length[at] = 6
    for at, letter in ((0x22, c'"'), (0x5C, c"\\"), (0x0A, c"n"), (0x0D, c"r"), (0x09, c"t")):
        _length[at] = 2
        _short[at] = letter


_fill_tables()


cdef inline bint _follows(Octets here, Octets end, unsigned char least, unsigned char most) noexcept nogil:
    return here < end and least <= here[0] <= most


cdef inline Py_ssize_t _character(Octets here, Octets end) noexcept nogil:
    """Bytes of the UTF-8 character that begins at `here`, which is no ASCII; 0: it is no valid one."""
    cdef unsigned char first = here[0]
    cdef unsigned char least = 0x80, most = 0xBF
    if first < 0xC2 or first > 0xF4:
        return 0
    if first < 0xE0:
        return 2 if _follows(here + 1, end, 0x80, 0xBF) else 0
    if first == 0xE0:
        least = 0xA0
    elif first == 0xED:
        most = 0x9F
    elif first == 0xF0:
        least = 0x90
    elif first == 0xF4:
        most = 0x8F
    if not _follows(here + 1, end, least, most) or not _follows(here + 2, end, 0x80, 0xBF):
        return 0
    if first < 0xF0:
        return 3
    return 4 if _follows(here + 3, end, 0x80, 0xBF) else 0


cdef inline bint _ends_a_line(Octets here) noexcept nogil:
    """U+2028 or U+2029; three bytes are there."""
    return here[0] == 0xE2 and here[1] == 0x80 and (here[2] == 0xA8 or here[2] == 0xA9)


cdef Py_ssize_t _quoted_size(Octets here, Octets end) noexcept nogil:
    cdef Py_ssize_t size = 0, length
    while here < end:
        length = _length[here[0]]
        if length:
            size += length
            here += 1
            continue
        length = _character(here, end)
        if length == 0:
            size += 6
            here += 1
        else:
            size += 6 if length == 3 and _ends_a_line(here) else length
            here += length
    return size


cdef void _quote_to(unsigned char *out, Octets here, Octets end) noexcept nogil:
    cdef const char *digits = b"0123456789abcdef"
    cdef Py_ssize_t length
    while here < end:
        length = _length[here[0]]
        if length == 1:
            out[0] = here[0]
            out += 1
            here += 1
        elif length == 2:
            out[0] = c"\\"
            out[1] = _short[here[0]]
            out += 2
            here += 1
        elif length == 6:
            memcpy(out, b"\\u00", 4)
            out[4] = digits[here[0] >> 4]
            out[5] = digits[here[0] & 15]
            out += 6
            here += 1
        else:
            length = _character(here, end)
            if length == 0:
                memcpy(out, b"\\ufffd", 6)
                out += 6
                here += 1
            elif length == 3 and _ends_a_line(here):
                memcpy(out, b"\\u202", 5)
                out[5] = c"8" if here[2] == 0xA8 else c"9"
                out += 6
                here += 3
            else:
                memcpy(out, here, length)
                out += length
                here += length


def quote(bytes text not None):
    cdef Octets here = <Octets> PyBytes_AS_STRING(text)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(text), size, at
    cdef Octets end = here + length
    cdef unsigned char is_plain = 1
    for at in range(length):  # to the end, without a branch: that is the quickest
        is_plain &= _length[here[at]]
    if is_plain:  # the lengths are 0, 1, 2 and 6
        return text
    if length < _LONG:
        size = _quoted_size(here, end)
    else:
        with nogil:
            size = _quoted_size(here, end)
    cdef bytes quoted = PyBytes_FromStringAndSize(NULL, size)
    cdef unsigned char *out = <unsigned char *> PyBytes_AS_STRING(quoted)
    if length < _LONG:
        _quote_to(out, here, end)
    else:
        with nogil:
            _quote_to(out, here, end)
    return quoted


cdef Py_ssize_t _unescape_to(unsigned char *out, Octets here, Octets end) noexcept nogil:
    """Bytes written; below 0: an escape is none."""
    cdef unsigned char *start = out
    while here < end:
        if here[0] == c"%":
            if end - here < 3 or _digit[here[1]] < 0 or _digit[here[2]] < 0:
                return -1
            out[0] = <unsigned char> (_digit[here[1]] * 16 + _digit[here[2]])
            here += 3
        else:
            out[0] = c" " if here[0] == c"+" else here[0]
            here += 1
        out += 1
    return out - start


def unescape(bytes text not None):
    cdef Octets here = <Octets> PyBytes_AS_STRING(text)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(text), size
    cdef Octets end = here + length
    if memchr(here, c"%", length) == NULL and memchr(here, c"+", length) == NULL:
        return text
    cdef bytes decoded = PyBytes_FromStringAndSize(NULL, length)
    cdef unsigned char *out = <unsigned char *> PyBytes_AS_STRING(decoded)
    if length < _LONG:
        size = _unescape_to(out, here, end)
    else:
        with nogil:
            size = _unescape_to(out, here, end)
    return None if size < 0 else decoded[:size]
