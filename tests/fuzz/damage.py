"""Files that are damaged, and what is asked of those who read them: the right result, or an error of ours that names them."""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from wkdask.errors import WkdaskError
from wkdask.storage import Location
from wkdask.testing.strategies import ODD_JSON

MOST_SECONDS = 5.0
MOST_BYTES = 256 << 20
"""By which the process may grow for one damaged file."""
_ticks = count(1_700_000_000_000_000_000, 1_000_003)

Look = Callable[["Slot"], None]


class Finding(Exception):
    """Something else happened than may."""


@dataclass(frozen=True)
class Slot:
    """A file that is replaced by damaged bytes, and how to look at what it belongs to.

    Parameters
    ----------
    label
        For people.
    place
        The file.
    content
        Its bytes while it is sound.
    root
        The folder that errors must name, or what is in it.
    also
        What they may name instead.
    look
        Reads all there is to read; raises anything but `WkdaskError` where something is wrong.
    repair
        Makes a checksum right again, so that what lies behind it is reached.
    """

    label: str
    place: Location
    content: bytes
    root: Location
    look: Look
    repair: Callable[[bytes], bytes] = bytes
    also: tuple[str, ...] = ()

    @property
    def is_json(self) -> bool:
        """Whether it is a document."""
        return self.content[:1] == b"{"

    def attempt(self, what: Callable[[], Any]) -> Any:
        """Return what a call returns, or None where it fails as it may."""
        try:
            return what()
        except WkdaskError as error:
            said = str(error)
            if not any(name in said for name in (str(self.root), *self.also)):
                raise Finding(f"an error that does not name the file: {said[:300]}") from error
            if len(said) > 8000:  # paths may have 4096
                raise Finding(f"an error of {len(said)} letters") from error
            return None

    def check(self, content: bytes) -> None:
        """Look at what the file belongs to while its bytes are others.

        Raises
        ------
        Finding
            Where it takes too long or too much memory, or anything but errors of ours comes out.
        """
        _put(self.place, self.repair(content))
        before, began = _peak(), time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", category=RuntimeWarning, module=r"wkdask\b")
                self.look(self)
        finally:
            _put(self.place, self.content)
        took, grown = time.process_time() - began, _peak() - before
        if took > MOST_SECONDS:
            raise Finding(f"{took:.1f} s of processor time")
        if grown > MOST_BYTES:
            raise Finding(f"{grown >> 20} MB of memory")


def _put(place: Location, content: bytes) -> None:
    """Write a file in place; each time it has a time of its own, as readers keep what they know of a file."""
    if not place.is_local:
        place.write_bytes(content)
        return
    with open(place.url, "wb") as file:
        file.write(content)
    tick = next(_ticks)
    os.utime(place.url, ns=(tick, tick))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Let the process take no more than so many bytes beyond what it has; where the system can not tell, any."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (now + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def mutated(slot: Slot, content: bytes, seed: int, plain: Callable[[bytes], bytes]) -> bytes:
    """Return other bytes; ``plain`` is a mutator of any bytes, which half of the work is left to."""
    rng = random.Random(seed)
    if slot.is_json and rng.random() < 0.8:
        try:
            return json.dumps(_other_json(json.loads(content), slot, rng)).encode()
        except (ValueError, RecursionError, IndexError, TypeError):
            return plain(content)
    if rng.random() < 0.5 or not content:
        return plain(content)
    return _other_bytes(content, slot, rng)


INTEGERS = (0, 1, 2, 7, 8, 255, 256, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63, (1 << 64) - 1)


def _other_bytes(content: bytes, slot: Slot, rng: random.Random) -> bytes:
    """Change a number at a place where one may be, cut, swap, or take a stretch of the sound file."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        form = rng.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
        size = struct.calcsize(form)
        at = rng.choice((rng.randrange(len(data) + 1), rng.randrange(len(data) // size + 1) * size, rng.randrange(64)))
        kind = rng.randrange(6)
        if kind == 0:
            return bytes(data[:at])
        if kind == 1:
            other = rng.randrange(len(slot.content) + 1)
            data[at : at + 16] = slot.content[other : other + 16]
        elif at + size <= len(data):
            (old,) = struct.unpack_from(form, data, at)
            sizes = (len(content), len(content) - at, len(slot.content))
            value = rng.choice((old + 1, old - 1, old * 2, old ^ (1 << rng.randrange(8 * size)), *INTEGERS, *sizes))
            struct.pack_into(form, data, at, value % (1 << 8 * size))
    return bytes(data)


def _paths(node: Any, head: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, below in inner for found in [(*head, key), *_paths(below, (*head, key))]]


def _member(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def _other_json(document: Any, slot: Slot, rng: random.Random) -> Any:
    """Change one to three members: gone, odd, another of its own, of the sound file, doubled, or another number."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        paths = _paths(document)
        path = rng.choice(paths)
        at, key = _member(document, path[:-1]), path[-1]
        old, kind = at[key], rng.randrange(8)
        if kind == 0:
            del at[key]
        elif kind == 1:
            at[key] = copy.deepcopy(rng.choice(ODD_JSON))
        elif kind == 2:
            at[key] = copy.deepcopy(_member(document, rng.choice(paths)))
        elif kind == 3:
            sound = json.loads(slot.content)
            at[key] = _member(sound, rng.choice(_paths(sound)))
        elif kind == 4:
            at[key] = [old] * rng.choice((1, 2, 4, 40))
        elif kind == 5 and isinstance(at, dict):
            at[rng.choice(("name", "id", "type", "0", "", "sharding", "fill_value", "filters"))] = copy.deepcopy(old)
        elif isinstance(old, bool) or not isinstance(old, int | float):
            at[key] = _other_text(old, rng) if isinstance(old, str) else rng.choice((True, False, None))
        else:
            at[key] = rng.choice((old - 1, old + 1, -old, old * 2, old / 2, *NUMBERS))
    return document


NUMBERS = (1 << 10, 1 << 20, 1 << 31, 1 << 40, 1 << 60, 1 << 62, 1e300, 1e-300)
WORDS = (
    "uint8", "int64", "float64", "bool", "complex64", "|O", "<f2", ">u8", "|V8", "|S3", "<M8[ns]", "raw", "jpeg", "png",
    "gzip", "zstd", "bytes", "crc32c", "transpose", "sharding_indexed", "blosc", "lz4", "lzma", "zlib", "delta", "pickle",
    "start", "end", "big", "little", "F", "/", ".", "-", "NaN", "Infinity", "0x7f", "identity", "..", "/etc", "ä", "\0",
)  # fmt: skip


def _other_text(old: str, rng: random.Random) -> str:
    at = rng.randrange(len(old) + 1)
    return rng.choice((rng.choice(WORDS), old[:at], old + old, old[:at] + rng.choice("09/.\\\0ä-_ ") + old[at:]))
