"""gRPC as no library sends it: calls that stop halfway, messages with false sizes."""

import contextlib
import socket
import struct
import threading

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_FRAME_BYTES = 16_384
TIMEOUT_S = 120.0


class RawCall:
    """One connection with one call; sends its bytes as far as the server allows.

    Args:
      port: Port of the server.
      method: Full name of the method.
      headers: Additional headers.
    """

    def __init__(self, port: int, method: str, headers: dict[str, str] | None = None):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._changed = threading.Condition()
        self._connection_window = self._stream_window = 65_535
        self._initial_window = 65_535
        self.is_over = False
        self.received = b""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
            **(headers or {}),
        }
        self._send(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
        self._send(
            _frame(_HEADERS, _END_HEADERS, 1, b"".join(map(_field, fields, fields.values())))
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, data: bytes, is_last: bool = False) -> bool:
        """Sends bytes of the call's body; returns whether all went before the server ended it."""
        view = memoryview(data)
        while view:
            with self._changed:
                self._changed.wait_for(self._may_send, TIMEOUT_S)
                if self.is_over or not self._may_send():
                    return False
                size = min(len(view), _FRAME_BYTES, self._connection_window, self._stream_window)
                self._connection_window -= size
                self._stream_window -= size
            flags = _END_STREAM if is_last and size == len(view) else 0
            if not self._send(_frame(_DATA, flags, 1, view[:size])):
                return False
            view = view[size:]
        return True

    def wait(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Waits until the server ends the call or the connection; returns whether it did."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_over, timeout_s)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the server has gone first
            self._socket.shutdown(socket.SHUT_RDWR)  # as the reader still reads it
        self._socket.close()

    def _may_send(self) -> bool:
        return self.is_over or (self._connection_window > 0 and self._stream_window > 0)

    def _send(self, data: bytes) -> bool:
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def _read(self) -> None:
        try:
            while self._read_frame():
                pass
        except OSError:
            pass
        with self._changed:
            self.is_over = True
            self._changed.notify_all()

    def _read_frame(self) -> bool:
        head = self._exactly(9)
        if not head:
            return False
        size, kind, flags, stream = head[:3], head[3], head[4], head[5:]
        payload = self._exactly(int.from_bytes(size, "big"))
        if kind == _SETTINGS and not flags & _ACK:
            for key, value in struct.iter_unpack(">HI", payload):
                if key == 4:
                    with self._changed:
                        self._stream_window += value - self._initial_window
                        self._initial_window = value
            self._send(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._send(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE:
            with self._changed:
                if int.from_bytes(stream, "big"):
                    self._stream_window += int.from_bytes(payload, "big")
                else:
                    self._connection_window += int.from_bytes(payload, "big")
                self._changed.notify_all()
        elif kind in (_HEADERS, _DATA):
            self.received += payload
        return kind not in (3, _GOAWAY) and not (kind == _HEADERS and flags & _END_STREAM)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                return b""
            data += part
        return data


def message(data: bytes, size: int | None = None, is_compressed: bool = False) -> bytes:
    """Returns a message with its prefix, which may claim another size."""
    return struct.pack(">BI", is_compressed, len(data) if size is None else size) + data


def _frame(kind: int, flags: int, stream: int, payload: bytes | memoryview) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name: str, value: str) -> bytes:
    """Returns a header in HPACK: a literal, not indexed, not compressed."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
