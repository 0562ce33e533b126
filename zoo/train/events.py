"""TensorBoard's event files, written without TensorBoard: a TFRecord file of Event messages.

The package `tensorboard` brings nine others (grpcio among them) to write such a file; what a scalar needs is
framing with a masked CRC-32C (TFRecord's format) and four protobuf fields, which are written by hand here.
Format: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto. A run that is resumed opens
another file whose first event is a session's start at the next step: readers drop what older files hold from
that step on (TensorBoard's purge).
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

PREFIX = "events.out.tfevents"


def _table() -> tuple[int, ...]:
    """CRC-32C (Castagnoli) of each byte, reflected polynomial 0x82F63B78."""
    values = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 * (value & 1)
        values.append(value)
    return tuple(values)


TABLE = _table()


def masked_crc(data: bytes) -> bytes:
    """CRC-32C rotated by 15 bits plus a constant, little endian: TFRecord's checksum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    """Length and data, each with its checksum."""
    length = struct.pack("<Q", len(data))
    return length + masked_crc(length) + data + masked_crc(data)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def event(step: int, body: bytes) -> bytes:
    """An Event: wall_time (1, double), step (2, int64) and one message more."""
    return record(b"\x09" + struct.pack("<d", time.time()) + b"\x10" + _varint(step) + body)


def scalar(step: int, tag: str, value: float) -> bytes:
    """summary (5) { value (1) { tag (1), simple_value (2, float) } }."""
    body = _message(1, tag.encode()) + b"\x15" + struct.pack("<f", value)
    return event(step, _message(5, _message(1, body)))


def opening(step: int) -> bytes:
    """file_version (3), then for a resumed run session_log (7) { status (1) START }: purge from `step` on."""
    first = event(0, _message(3, b"brain.Event:2"))
    return first + (event(step, _message(7, b"\x08\x01")) if step else b"")


def next_file(folder: Path) -> Path:
    """A name that sorts after the files that are there: readers take them in the order of their names."""
    times = [int(p.name.split(".")[3]) for p in folder.glob(f"{PREFIX}.*") if p.name.split(".")[3].isdigit()]
    return folder / f"{PREFIX}.{max([int(time.time()), *(t + 1 for t in times)]):010d}.zoo"
