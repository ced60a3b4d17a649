# cython: language_level=3, binding=False
"""Commits a staged write to the log on a thread that never asks for the interpreter; compiled, and optional.

A Python thread would have to take the interpreter from the event loop before and behind each call to the system, and
waits half a millisecond for it while the loop is busy. This one is told what to do by one eventfd, and tells by
another that it is done. One commit at a time; the pieces stay referenced until its end is taken.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

import os

cdef extern from "<errno.h>" nogil:
    int errno
    int EINTR
    int EIO

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int descriptor, void *buffer, size_t size)
    ssize_t write(int descriptor, const void *buffer, size_t size)
    ssize_t pwrite(int descriptor, const void *buffer, size_t size, long offset)
    int fdatasync(int descriptor)
    int close(int descriptor)

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int initial, int flags)
    int EFD_CLOEXEC

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef enum:
    PIECES = 4  # of one commit, at most


cdef double _now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef void _tell(int descriptor) noexcept nogil:
    cdef unsigned long long one = 1
    while write(descriptor, &one, sizeof(one)) < 0 and errno == EINTR:
        pass


cdef bint _wait(int descriptor) noexcept nogil:
    """False: there is nobody to wait for."""
    cdef unsigned long long told
    while read(descriptor, &told, sizeof(told)) < 0:
        if errno != EINTR:
            return False
    return True


cdef class Committer:
    """`descriptor` becomes readable when a commit has ended."""

    cdef readonly int descriptor
    cdef int _orders
    cdef int _file
    cdef int _count
    cdef const char *_start[PIECES]
    cdef Py_ssize_t _size[PIECES]
    cdef long _offset[PIECES]
    cdef object _pieces
    cdef bint _is_stopping
    cdef int _error
    cdef bint _is_written
    cdef double _seconds

    def __cinit__(self):
        self.descriptor = -1
        self._orders = eventfd(0, EFD_CLOEXEC)
        self.descriptor = eventfd(0, EFD_CLOEXEC)
        if self._orders < 0 or self.descriptor < 0:
            raise OSError(errno, os.strerror(errno))

    def begin(self, int file, list pieces not None):
        """Writes `pieces`, each (bytes, offset), to the descriptor `file`, and then syncs it."""
        if self._pieces is not None:
            raise RuntimeError("one commit at a time")
        if len(pieces) > PIECES:
            raise ValueError("too many pieces")
        cdef bytes piece
        cdef int at = 0
        for taken, offset in pieces:
            if type(taken) is not bytes:
                raise TypeError("a piece is bytes")
            piece = taken
            self._start[at] = PyBytes_AS_STRING(piece)
            self._size[at] = PyBytes_GET_SIZE(piece)
            self._offset[at] = offset
            at += 1
        self._pieces = pieces
        self._file = file
        self._count = at
        _tell(self._orders)

    def end(self):
        """When `descriptor` is readable: (the system's error number or 0, whether it was the sync that failed, the
        seconds that the sync took)."""
        _wait(self.descriptor)
        self._pieces = None
        return self._error, bool(self._is_written), self._seconds

    def run(self):
        """The thread. Returns after `stop`."""
        with nogil:
            while True:
                if not _wait(self._orders) or self._is_stopping:
                    break
                self._commit()
                _tell(self.descriptor)

    def stop(self):
        """Not while a commit is under way."""
        self._is_stopping = True
        _tell(self._orders)

    def close(self):
        """Once the thread has ended."""
        if self._orders >= 0:
            close(self._orders)
        if self.descriptor >= 0:
            close(self.descriptor)
        self._orders = self.descriptor = -1

    def __dealloc__(self):
        self.close()

    cdef void _commit(self) noexcept nogil:
        cdef int at
        cdef Py_ssize_t written, count
        cdef double began
        self._error = 0
        self._is_written = False
        for at in range(self._count):
            written = 0
            while written < self._size[at]:
                count = pwrite(
                    self._file, self._start[at] + written, self._size[at] - written, self._offset[at] + written
                )
                if count > 0:
                    written += count
                elif count == 0 or errno != EINTR:
                    self._error = errno if count < 0 else EIO
                    return
        self._is_written = True
        began = _now()
        while fdatasync(self._file) < 0:
            if errno != EINTR:
                self._error = errno
                return
        self._seconds = _now() - began
