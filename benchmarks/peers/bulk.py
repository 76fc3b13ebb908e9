"""Big results and COPY through one connection: megabytes a second, and the pooler's processor seconds for a gigabyte."""

import ssl
import struct
import time

import usage
import wire_client

LINE = 100  # bytes of a row
READY = b"Z\0\0\0\5I"
WHAT = ("rows", "copy-out", "copy-in")


class BulkFailed(Exception):
    """The target didn't do it."""


def connect(target, tls):
    wire = wire_client.Wire(target.port, timeout=60)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        wire.request_tls(context)
    wire.login(target.user, None, target.database)
    wire.socket.settimeout(60)
    return wire


def receive(wire, sql, buffer):
    """Bytes until the answer is complete. Nothing in the rows looks like its end."""
    wire.send(wire_client.query(sql))
    wire.socket.settimeout(60)
    total, view, tail = 0, memoryview(buffer), b""
    while True:
        got = wire.socket.recv_into(view)
        if got == 0:
            raise BulkFailed("the connection was closed")
        if total == 0 and buffer[0:1] == b"E":
            raise BulkFailed(wire_client.error_fields(bytes(view[5:got])).get("M"))
        total += got
        tail = (tail + bytes(view[max(0, got - 6):got]))[-6:]
        if tail == READY:
            return total


def feed(wire, table, mib):
    """COPY of lines that the server reads and drops (WHERE false): what is measured is their way."""
    wire.send(wire_client.query(f"COPY {table} FROM STDIN WHERE false"))
    if wire.recv()[0] != "G":
        raise BulkFailed("COPY was refused")
    line = b"x" * (LINE - 1) + b"\n"
    chunk = (b"d" + struct.pack("!i", LINE + 4) + line) * (1048576 // (LINE + 5))
    wire.socket.settimeout(60)
    for _ in range(mib):
        wire.socket.sendall(chunk)
    wire.socket.sendall(wire_client.copy_done())
    end = wire.recv_until("Z")
    if any(kind == "E" for kind, _ in end):
        raise BulkFailed("COPY failed")
    return mib * len(chunk)


def run(target, what, mib, tls, buffer=bytearray(1 << 20)):
    wire = connect(target, tls)
    try:
        series = f"SELECT repeat('x', {LINE}) FROM generate_series(1, {{0}})"
        receive(wire, series.format(100), buffer)  # the server connection is there
        rows = mib * 1048576 // LINE
        before, began = usage.cpu_seconds(target.daemon), time.monotonic()
        if what == "rows":
            total = receive(wire, series.format(rows), buffer)
        elif what == "copy-out":
            total = receive(wire, f"COPY ({series.format(rows)}) TO STDOUT", buffer)
        else:
            total = feed(wire, "bench.sink", mib)
        took = time.monotonic() - began
        cpu = usage.cpu_seconds(target.daemon) - before
        return {"mb_per_s": total / 1e6 / took, "cpu_s_per_gb": cpu / (total / 1e9) if target.daemon else None}
    finally:
        wire.close()
