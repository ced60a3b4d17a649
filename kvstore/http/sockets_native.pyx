# cython: language_level=3, binding=False
"""Reads and sends on sockets at once, without a transport in between; compiled, and optional (sockets.py).

The descriptors belong to transports. Whoever sends to one says that its transport has nothing to send; whoever adds one
to the readers, that its transport does not read, and neither closes it before it is removed.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free

import os

cdef extern from "<errno.h>" nogil:
    int errno
    int EAGAIN
    int EINTR

cdef extern from "<unistd.h>" nogil:
    int close(int descriptor)

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int socket, void *octets, size_t size, int flags)
    ssize_t send(int socket, const void *octets, size_t size, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        unsigned int events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int file, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int size, int timeout)
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN

cdef extern from *:
    """
    static Py_ssize_t take_next(Py_ssize_t *next, Py_ssize_t count) { return __sync_fetch_and_add(next, count); }
    """
    Py_ssize_t take_next(Py_ssize_t *next, Py_ssize_t count) nogil

cdef enum:
    SENDS = 32  # that a thread takes at a time
    READY = 256  # sockets that are read in one go; the others are in the next
    READ_BYTES = 65536  # of one of them


def send_now(int file, bytes octets not None):
    """How many of `octets` the socket took; 0 also where it is broken."""
    return max(0, send(file, PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets), MSG_DONTWAIT | MSG_NOSIGNAL))


# --- one reader of many sockets (intake.py) -----------------------------------------------------------------------


cdef class Readers:
    """Who reads which socket. `run` is to be called when `descriptor` is readable."""

    cdef readonly int descriptor
    cdef dict _readers
    cdef epoll_event _ready[READY]
    cdef char _octets[READ_BYTES]

    def __cinit__(self):
        self._readers = {}
        self.descriptor = epoll_create1(EPOLL_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(errno, os.strerror(errno))

    def add(self, int file, reader not None):
        """`reader.data_received` gets what comes, and `reader.fail` what that raises; `reader.stop_intake` is called
        where no more comes: then it is the transport's to find out why. Raises OSError."""
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.fd = file
        if epoll_ctl(self.descriptor, EPOLL_CTL_ADD, file, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        self._readers[file] = reader

    def remove(self, int file):
        """Raises KeyError for one that was not added."""
        cdef epoll_event event
        del self._readers[file]
        epoll_ctl(self.descriptor, EPOLL_CTL_DEL, file, &event)

    def run(self):
        cdef int count = epoll_wait(self.descriptor, self._ready, READY, 0)
        cdef int at, file
        cdef ssize_t size
        for at in range(count):
            file = self._ready[at].data.fd
            reader = self._readers.get(file)
            if reader is None:  # removed by what one before it has read
                continue
            if self._ready[at].events != EPOLLIN:  # a socket tells its error once, and that is for the transport
                reader.stop_intake()
                continue
            size = recv(file, self._octets, READ_BYTES, MSG_DONTWAIT)
            if size > 0:
                octets = PyBytes_FromStringAndSize(self._octets, size)
                try:
                    reader.data_received(octets)
                except Exception as bug:  # the others are still to be read
                    reader.fail(bug)
            elif size == 0 or errno != EAGAIN and errno != EINTR:
                reader.stop_intake()

    def close(self):
        if self.descriptor >= 0:
            close(self.descriptor)
        self.descriptor = -1
        self._readers.clear()

    def __dealloc__(self):
        if self.descriptor >= 0:
            close(self.descriptor)


# --- one piece to many sockets (fanout.py) ------------------------------------------------------------------------


cdef class Sends:
    """`piece` to each of the sockets that `files` are the descriptors of; nothing is sent to one below 0.

    `run` shares the work with whoever else runs it, and needs no interpreter meanwhile. What is over when the last of
    them has returned, `unsent` tells: where in `files`, and how many bytes went there if not all.
    """

    cdef bytes _piece
    cdef Py_ssize_t _count
    cdef Py_ssize_t _next
    cdef int *_files
    cdef Py_ssize_t *_sent

    def __cinit__(self, bytes piece not None, list files not None):
        self._piece = piece
        self._count = len(files)
        self._files = <int *>PyMem_Calloc(self._count, sizeof(int))
        self._sent = <Py_ssize_t *>PyMem_Calloc(self._count, sizeof(Py_ssize_t))
        if self._files == NULL or self._sent == NULL:
            raise MemoryError
        for at in range(self._count):
            self._files[at] = files[at]

    def run(self):
        cdef const char *start = PyBytes_AS_STRING(self._piece)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self._piece)
        cdef Py_ssize_t at, end
        with nogil:
            while True:
                at = take_next(&self._next, SENDS)
                if at >= self._count:
                    break
                end = min(at + SENDS, self._count)
                while at < end:
                    self._sent[at] = send(self._files[at], start, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                    at += 1

    def unsent(self):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self._piece)
        return [(at, max(0, self._sent[at])) for at in range(self._count) if self._sent[at] != size]

    def __dealloc__(self):
        PyMem_Free(self._files)
        PyMem_Free(self._sent)
