"""CSV lines as numbers, straight from the bytes of a file: what makes reading millions of AVA's rows quick.

A file is taken in chunks of whole lines. Fields are never cut out: eight bytes at a time are read at any position of a
chunk as one 64-bit number, for all lines at once. Whatever is not as programs write it raises `UnusualError`.

Shapes: n lines of a chunk, c columns.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CHUNK_BYTES = 4 << 20
_PADDING = b"0" * 8  # before a chunk, so that the eight bytes up to any field's end are inside it
_ZEROS = np.uint64(0x3030303030303030)  # "00000000"


class UnusualError(Exception):
    """Something that has to be read line by line."""


@dataclass(frozen=True)
class Chunk:
    """Some lines of a file.

    Attributes:
        block: the bytes after eight of padding.
        bytes: uint8, the same.
        words: uint64, the eight bytes from each position on, aligned or not.
        start, end: int64 [n], positions of the lines, without line ends.
        comma: int64 [n, c - 1], positions of the commas.
    """

    block: bytes
    bytes: np.ndarray
    words: np.ndarray
    start: np.ndarray
    end: np.ndarray
    comma: np.ndarray

    @property
    def columns(self) -> int:
        return self.comma.shape[1] + 1

    def texts(self, start: np.ndarray, end: np.ndarray) -> list[str]:
        """The texts between positions."""
        block = self.block
        return [block[a:b].decode("utf-8") for a, b in zip(start.tolist(), end.tolist(), strict=True)]


def chunks(path: Path) -> Iterator[Chunk]:
    """The file in chunks of lines with the same number of columns, 7 or 8.

    Raises:
        UnusualError: quotes, a byte order mark, empty lines, another number of columns.
    """
    columns = 0
    with open(path, "rb") as file:
        while block := file.read(CHUNK_BYTES):
            block += file.readline()
            if b'"' in block or block.startswith(codecs.BOM_UTF8):
                raise UnusualError
            chunk = _chunk(_PADDING + block + b"\n" * (not block.endswith(b"\n")))
            if columns not in (0, chunk.columns):
                raise UnusualError
            columns = chunk.columns
            yield chunk


def _chunk(block: bytes) -> Chunk:
    bytes_ = np.frombuffer(block, np.uint8)
    feeds = np.flatnonzero(bytes_ == ord("\n"))
    start = np.concatenate([[len(_PADDING)], feeds[:-1] + 1])
    end = feeds - (bytes_[feeds - 1] == ord("\r"))
    commas = np.flatnonzero(bytes_ == ord(","))
    per_line, rest = divmod(len(commas), len(feeds))
    if rest or per_line not in (6, 7):
        raise UnusualError
    comma = commas.reshape(-1, per_line)
    if not ((comma[:, 0] >= start).all() and (comma[:, -1] < end).all()):
        raise UnusualError
    words = np.ndarray((len(bytes_) - 7,), np.dtype("<u8"), buffer=bytes_, strides=(1,))
    return Chunk(block, bytes_, words, start, end, comma)


def differs_from_before(chunk: Chunk, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """bool [m]: texts that differ from the one before them; short ones count as different."""
    length = end - start
    new = np.ones(len(length), bool)
    new[1:] = length[1:] != length[:-1]
    new |= length < 8
    for offset in range(0, int(length.max()), 8):  # the last eight bytes overlap those before
        word = chunk.words[np.maximum(np.minimum(start + offset, end - 8), 0)]
        new[1:] |= word[1:] != word[:-1]
    return new


def whole_numbers(chunk: Chunk, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """int64 [m]: numbers of one to eight digits.

    Raises:
        UnusualError: anything else.
    """
    width = end - start
    if width.min() < 1 or width.max() > 8:
        raise UnusualError
    digits = chunk.words[end - 8]  # the last character is the highest byte
    before = ((8 - width) << 3).astype(np.uint64)
    mask = np.left_shift(np.uint64(0xFFFFFFFFFFFFFFFF), before)
    digits &= mask
    np.invert(mask, out=mask)
    mask &= _ZEROS
    digits |= mask  # what stands before the field is read as zeros
    digits ^= _ZEROS  # the characters "0" to "9" become 0 to 9, any other more
    if ((digits | (digits + np.uint64(0x0606060606060606))) & np.uint64(0xF0F0F0F0F0F0F0F0)).any():
        raise UnusualError
    # Neighbours are added pairwise, with their weights: eight numbers below 10, four below 100, two below 10,000.
    digits = (digits * np.uint64(10)) + (digits >> np.uint64(8))
    low = digits & np.uint64(0x000000FF000000FF)
    digits >>= np.uint64(16)
    digits &= np.uint64(0x000000FF000000FF)
    low *= np.uint64(0x000F424000000064)  # 1,000,000 and 100
    digits *= np.uint64(0x0000271000000001)  # 10,000 and 1
    low += digits
    low >>= np.uint64(32)
    return low.view(np.int64)


def decimals(chunk: Chunk, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """float64 [m]: exactly what `float` gives; quick where all have the same number of decimals, eight at most.

    Raises:
        UnusualError: not a number, or not a finite one.
    """
    if not len(start):
        return np.zeros(0)
    behind = chunk.block[start[0] : end[0]][::-1].find(b".")
    if 1 <= behind <= 8:
        point = end - 1 - behind
        width = point - start
        if width.min() >= 1 and width.max() <= 7 and (chunk.bytes[point] == ord(".")).all():
            try:
                value = whole_numbers(chunk, point + 1, end)
                whole = chunk.bytes[start] - np.uint8(ord("0")) if width.max() == 1 else None
                if whole is None or whole.max() > 9:
                    whole = whole_numbers(chunk, start, point)
            except UnusualError:
                return _any_decimals(chunk, start, end)
            if whole.any():
                value += whole * np.int64(10**behind)
            # Up to 15 digits and powers of ten are exact in float64, so their quotient is the nearest float64.
            return value / 10.0**behind
    return _any_decimals(chunk, start, end)


def _any_decimals(chunk: Chunk, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Plain numbers of up to 15 digits as in `decimals`, others one by one."""
    width = end - start
    if width.min() < 1 or width.max() > 32:
        raise UnusualError
    column = np.arange(-int(width.max()), 0)
    text = chunk.bytes[np.maximum(end[:, None] + column, 0)]  # right-aligned
    text = np.where(column >= -width[:, None], text, np.uint8(ord("0")))
    point = text == ord(".")
    digits = np.where(point, np.uint8(ord("0")), text) - np.uint8(ord("0"))
    plain = (digits <= 9).all(axis=1) & (point.sum(axis=1) <= 1) & (width <= 16)
    value = np.zeros(len(text), np.int64)
    for i in range(text.shape[1]):
        value = np.where(point[:, i], value, value * 10 + digits[:, i])
    behind = np.where(point.any(axis=1), text.shape[1] - 1 - point.argmax(axis=1), 0)
    number = value / 10.0 ** np.minimum(behind, 22)
    others = np.flatnonzero(~plain)
    try:
        number[others] = [float(one) for one in chunk.texts(start[others], end[others])]
    except ValueError as error:
        raise UnusualError from error
    if not np.isfinite(number).all():
        raise UnusualError
    return number
