"""What the stored frame index saves at the first clip of a long movie.

    python benchmarks/frame_index.py [--minutes 15] [--rounds 15]

The movie is made of the videos of benchmarks/data.py, repeated. Three ways take turns on the same clip (64 frames of
which 36 are read), one thread, processor time: the file is new and read through; the file is new and its index stored;
the file is open and its index known. About a minute. A reading process keeps 64 indices and 8 open files: in a shuffled
pass over more movies than that, a clip without a stored index costs what the first row says again and again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from footage import make_footage

from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.stored_frames import FILE_NAME, StoredFrames
from alphaction.dataset.video_io import VideoCache, WholeVideo, read_clip
from alphaction.preparation.index_videos import index_videos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "alphaction_footage")
    args = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    source = make_footage(args.folder, movies=2, seconds=30).parent / "movies" / "m0.mp4"
    with tempfile.TemporaryDirectory() as folder:
        movie, file = Path(folder) / "movie.mp4", Path(folder) / FILE_NAME
        _repeat(source, movie, times=args.minutes * 2)
        begun = time.process_time()
        index_videos(file, [str(movie)])
        print(f"indexing {movie.stat().st_size / 1e6:.0f} MB takes {time.process_time() - begun:.2f} s")
        print(f"the stored index of {args.minutes * 60 * 25} frames has {file.stat().st_size / 1e3:.1f} kB")
        _measure(str(movie), StoredFrames([str(file)]), seconds=args.minutes * 60, rounds=args.rounds)


def _measure(movie: str, stored: StoredFrames, *, seconds: int, rounds: int) -> None:
    kept = VideoCache()
    ways = {
        "new file, read through": (WholeVideo(movie), VideoCache),
        "new file, index stored": (WholeVideo(movie, stored), VideoCache),
        "open file, index known": (WholeVideo(movie), lambda: kept),
    }
    sampling = ClipSampling(frame_num=64, sample_rate=1, tau=16, alpha=8)
    positions = np.concatenate([sampling.slow_window(), sampling.fast_window()])
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for moment in np.random.default_rng(0).integers(3, seconds - 3, rounds + 1).tolist():
        for name, (source, cache_of) in ways.items():
            cache = cache_of()
            begun = time.process_time()
            read_clip(
                source,
                float(moment),
                positions,
                span=sampling.span,
                frame_rate=sampling.frame_rate,
                cache=cache,
            )
            spent[name].append(time.process_time() - begun)
            if cache is not kept:
                cache.close()
    print("\n| first clip of a movie | ms (quartiles) | clips/s |\n| --- | ---: | ---: |")
    for name, row in spent.items():
        low, middle, high = np.percentile(row[1:], [25, 50, 75]) * 1e3
        print(f"| {name} | {middle:.0f} ({low:.0f} to {high:.0f}) | {1e3 / middle:.1f} |")


def _repeat(source: Path, target: Path, *, times: int) -> None:
    """The same packets again and again, with time stamps that go on."""
    with av.open(str(target), "w") as out:
        stream, shift = None, 0
        for _ in range(times):
            with av.open(str(source)) as video:
                track = video.streams.video[0]
                stream = stream or out.add_stream_from_template(track)
                for packet in video.demux(track):
                    if packet.size:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        out.mux(packet)
                shift += track.duration


if __name__ == "__main__":
    main()
