"""Options of the gRPC library that close dead and idle connections and limit the others."""

import resource

MAX_ANSWER_BYTES = 2**31 - 1

# Options that close dead and idle connections. A client whose connection is closed reconnects, and
# its running calls finish. Channel arguments of the user come later and override these.
_CONNECTIONS: tuple[tuple[str, int], ...] = (
    # Otherwise a second server on the same port starts without an error, and each gets half of the
    # requests.
    ("grpc.so_reuseport", 0),
    # The library unpacks a message as a whole before it compares its size with the limit.
    ("grpc.per_message_decompression", 0),
    ("grpc.server_handshake_timeout_ms", 20_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients may ping as often as once in ten seconds, with or without calls.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_connection_idle_ms", 10 * 60_000),
    ("grpc.max_connection_age_ms", 30 * 60_000),
    # An answer that nobody reads is freed only with its connection: the library cannot cancel it.
    ("grpc.max_connection_age_grace_ms", 5 * 60_000),
    # Further calls of the same connection wait in the client.
    ("grpc.max_concurrent_streams", 256),
    # Python keeps a refused call until its garbage collector finds it. The library would count
    # kept calls as running ones, and refuse every further call of the connection.
    ("grpc.http.overload_protection", 0),
)


def connection_options(max_message_bytes: int) -> list[tuple[str, int | str]]:
    """Returns the options of a server.

    Args:
      max_message_bytes: Maximum size of a message as received, possibly compressed.

    Returns:
      Name and value of each option.
    """
    return [
        *_CONNECTIONS,
        ("grpc.max_allowed_incoming_connections", _most_connections()),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
    ]


def _most_connections() -> int:
    """Returns a third of the process's limit of open files, as REST and models need some, too."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 - 1 if limit == resource.RLIM_INFINITY else max(1, limit // 3)
