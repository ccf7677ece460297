"""Videos made for tests: small, real files (PyAV, libx264) whose frames carry their number in the pixels."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from fractions import Fraction

import av
import numpy as np

BITS = 12
CELL = 16  # pixels: one bit per 16 x 16 cell of pure black or white survives any sensible compression


def numbered_frames(count: int, *, height: int = 48, width: int = 96, first: int = 0) -> np.ndarray:
    """uint8 [count, height, width, 3] RGB; frame i shows the number `first + i` as black and white cells.

    Cells hold 12 bits, row by row; a size below 48 x 64 or 32 x 96 has no room for them. The rest of the picture is a
    colour gradient that moves with the number, so that neighbouring frames differ everywhere.
    """
    columns = width // CELL
    if columns * (height // CELL) < BITS:
        raise ValueError(f"size: {height} x {width} holds fewer than {BITS} cells of {CELL} pixels")
    y, x = np.mgrid[0:height, 0:width]
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    for i in range(count):
        number = first + i
        frames[i] = np.stack([(x + 5 * number) % 256, (y + 3 * number) % 256, (x + y + number) % 256], axis=-1)
        for bit in range(BITS):
            row, column = divmod(bit, columns)
            value = 255 if number >> bit & 1 else 0
            frames[i, row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = value
    return frames


def read_number(frame: np.ndarray) -> int:
    """The number that a frame [height, width, 3] of `numbered_frames` shows."""
    columns = frame.shape[1] // CELL
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, columns)
        centre = frame[row * CELL + 4 : (row + 1) * CELL - 4, column * CELL + 4 : (column + 1) * CELL - 4]
        number |= int(centre.mean() > 127) << bit
    return number


def read_numbers(frames: Sequence[np.ndarray] | np.ndarray) -> list[int]:
    return [read_number(frame) for frame in frames]


def write_video(
    path: str | pathlib.Path,
    frames: np.ndarray | int,
    fps: Fraction | int = 25,
    *,
    times: Sequence[Fraction | float] | None = None,
    gop: int = 12,
    b_frames: int = 2,
    options: Mapping[str, str] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio_seconds: float = 0.0,
    container_options: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Writes frames as a video and returns its path; folders are made.

    Args:
        path: the suffix chooses the container (.mp4, .mkv, .avi, .ts, .h264).
        frames: uint8 [T, H, W, 3] RGB, or T for `numbered_frames(T)`.
        fps: frame rate, exact (Fraction(30000, 1001) for 29.97).
        times: presentation time of each frame in seconds, for variable frame rate or a late start; default i / fps.
        gop: frames between key frames.
        b_frames: B-frames between references (x264 uses them as references too, unless options say otherwise).
        options: encoder options; default a fast x264 preset of good quality.
        audio_seconds: length of a silent sound track, 0 for none.
        container_options: options of the muxer, e.g. {"movflags": "faststart"}.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = numbered_frames(frames) if isinstance(frames, int) else frames
    # AVI and MPEG-4 part 2 count frames, nothing finer.
    base = 1 / Fraction(fps) if path.suffix == ".avi" or codec == "mpeg4" else Fraction(1, 90000)
    if times is None:
        times = [Fraction(i) / Fraction(fps) for i in range(len(frames))]
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.time_base = base
        stream.codec_context.thread_count = 1
        default = {"preset": "veryfast", "crf": "12", "sc_threshold": "0"} if codec == "libx264" else {}
        stream.options = default | dict(options or {})
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio_seconds else None
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = round(Fraction(time) / base)
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _mux_silence(container, sound, audio_seconds)
    return path


def write_sound(path: str | pathlib.Path, seconds: float = 1.0) -> pathlib.Path:
    """A file with a sound track and no video."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        _mux_silence(container, container.add_stream("aac", rate=16000, layout="mono"), seconds)
    return path


def write_second_files(folder: str | pathlib.Path, counts: Mapping[int, int], fps: int = 25) -> dict[int, str]:
    """One-second files `<second>.mp4`; the k-th frame over all files, by second, shows the number k.

    Args:
        counts: frames in the file of each second.

    Returns:
        {second: file name}.
    """
    files, first = {}, 0
    for second, count in sorted(counts.items()):
        files[second] = f"{second}.mp4"
        write_video(pathlib.Path(folder) / files[second], numbered_frames(count, first=first), fps)
        first += count
    return files


def _mux_silence(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for start in range(0, int(seconds * 16000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
