"""AVA's CSV annotations as the JSON that the original reads, with the original's ids.

An image for every second of every movie, annotated or not: id = place of the movie in the list * 10000 + second. Boxes
are x, y, width, height in pixels, rounded to 0.01.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.raw import RawAnnotations
from alphaction.dataset.video_index import EXTENSIONS, VideoIndex
from alphaction.dataset.video_io import probe
from alphaction.errors import DataError
from alphaction.utils.atomic import write_text

PERSON = {"supercategory": "person", "id": 1, "name": "person"}
IDS_PER_MOVIE = 10000  # the original's image ids
IDS_PER_IMAGE = 1000  # and annotation ids

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class JsonOptions:
    """What to convert.

    Attributes:
        movie_list: text file, a movie per line, endings do not count; its order gives the ids.
        csv_path: AVA CSV; "" = images without annotations.
        first, last: seconds that get an image, both inclusive.
        img_root: folder of keyframe pictures <movie>/<second>.jpg, which the sizes are taken from.
        video_root: folder of videos or one-second files, which the sizes are taken from.
        size: (width, height) of all movies.
    """

    movie_list: str
    csv_path: str = ""
    first: int = 902
    last: int = 1798
    img_root: str = ""
    video_root: str = ""
    size: Size | None = None


def read_movie_list(path: str) -> list[str]:
    """Movie ids of a text file, a line each, without the endings of video files.

    Raises:
        DataError: missing, empty, or a movie is there twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the list of movies cannot be read ({error})") from None
    names = [line.strip() for line in lines if line.strip()]
    movies = [str(Path(n).with_suffix("")) if Path(n).suffix.lower() in EXTENSIONS else n for n in names]
    if not movies:
        raise DataError(f"{path}: the list of movies is empty; expected a movie per line")
    twice = next((movie for i, movie in enumerate(movies) if movie in movies[:i]), None)
    if twice is not None:
        raise DataError(f"{path}: the movie {twice!r} is in the list twice")
    return movies


def ava_content(options: JsonOptions) -> dict[str, list]:
    """The JSON's content: `images`, `annotations`, `categories`.

    With a CSV there are images of its movies only, in the order of the list.

    Raises:
        UserError: a file cannot be read, a movie is not in the list, a time is not a second of the range, or the size
            of a movie cannot be told.
    """
    if not 0 <= options.first <= options.last < IDS_PER_MOVIE:
        raise DataError(
            f"seconds: got {options.first} to {options.last}, expected 0 <= first <= last < {IDS_PER_MOVIE}"
        )
    listed = read_movie_list(options.movie_list)
    raw = read_annotations(options.csv_path) if options.csv_path else None
    movies = listed
    if raw is not None:
        unknown = [movie for movie in raw.movies if movie not in set(listed)]
        if unknown:
            raise DataError(
                f"{options.csv_path}: {len(unknown)} of its movies are not in {options.movie_list}: "
                f"{', '.join(unknown[:5])}. Add them there, at the end: the order gives the ids"
            )
        movies = [movie for movie in listed if movie in set(raw.movies)]
    number = {movie: i for i, movie in enumerate(listed)}
    size_of = _sizes(options, movies)
    sizes = {movie: size_of(movie) for movie in movies}
    seconds = range(options.first, options.last + 1)
    images = [
        {
            "id": number[movie] * IDS_PER_MOVIE + second,
            "img_path": f"{movie}/{second}.jpg",
            "video_path": f"{movie}/{second}.mp4",
            "height": sizes[movie][1],
            "width": sizes[movie][0],
            "movie": movie,
            "timestamp": second,
        }
        for movie in movies
        for second in seconds
    ]
    annotations = [] if raw is None else _annotations(raw, number, sizes, seconds)
    return {"categories": [PERSON], "images": images, "annotations": annotations}


def write_json(options: JsonOptions, *, json_path: str = "", min_json_path: str = "") -> str:
    """Writes the JSON, indented for the eye and (or) as short as possible; returns the report.

    Raises:
        UserError: neither file is asked for; as for `ava_content`.
    """
    if not json_path and not min_json_path:
        raise DataError("no output: give --json_path FILE (indented), --min_json_path FILE (short), or both")
    content = ava_content(options)
    for path, indent in ((json_path, 2), (min_json_path, None)):
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text=json.dumps(content, indent=indent, separators=None if indent else (",", ":")))
    movies = len({image["movie"] for image in content["images"]})
    return (
        f"{movies} movies, {len(content['images'])} images, {len(content['annotations'])} persons; written to "
        + " and ".join(filter(None, (json_path, min_json_path)))
    )


def _annotations(raw: RawAnnotations, number: dict[str, int], sizes: dict[str, Size], seconds: range) -> list[dict]:
    annotations: list[dict] = []
    used: set[int] = set()
    ids = raw.classes.ids
    for row in range(len(raw.keyframe)):
        keyframe = int(raw.keyframe[row])
        movie, time = raw.movies[int(raw.movie[keyframe])], float(raw.time[keyframe])
        if time != int(time) or int(time) not in seconds:
            raise DataError(
                f"{raw.source}: {raw.name_person(row)}: expected a whole second from {seconds[0]} to {seconds[-1]} "
                "(--start, --end). Times between seconds do not fit this form; the CSV itself can be trained with"
            )
        width, height = sizes[movie]
        image = number[movie] * IDS_PER_MOVIE + int(time)
        x1, y1, x2, y2 = raw.boxes[row].tolist()
        box = x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height
        person = int(raw.person_id[row])
        annotations.append(
            {
                "id": _free_id(image, person, used),
                "image_id": image,
                "category_id": 1,
                "action_ids": [class_id for class_id, on in zip(ids, raw.labels[row].tolist(), strict=True) if on],
                "person_id": person,
                "bbox": [round(value, 2) for value in box],
                "area": round(box[2] * box[3], 5),
                "keypoints": [],
                "iscrowd": 0,
            }
        )
    return sorted(annotations, key=lambda entry: entry["image_id"])


def _free_id(image: int, person: int, used: set[int]) -> int:
    """The original's annotation id, image * 1000 + person; the next free one where that is taken or impossible."""
    start = image * IDS_PER_IMAGE
    free = start + (person if 0 <= person < IDS_PER_IMAGE else 0)
    while free in used:
        free = start + (free - start + 1) % IDS_PER_IMAGE
    used.add(free)
    return free


def _sizes(options: JsonOptions, movies: Sequence[str]) -> Callable[[str], Size]:
    """How the size of a movie is told."""
    size = options.size
    if size is not None:
        return lambda _: size
    if options.img_root:
        return lambda movie: _picture_size(Path(options.img_root) / movie)
    if not options.video_root:
        raise DataError("no sizes of pictures: give --img_root FOLDER, --video_root FOLDER or --size WIDTH HEIGHT")
    found = VideoIndex(options.video_root).find(movies)
    problems = [f"{entry.movie}: {entry.problem}" for entry in found if entry.problem]
    if problems:
        raise DataError(
            f"{options.video_root}: {len(problems)} videos cannot be used:\n  " + "\n  ".join(problems[:20])
        )
    sizes: dict[str, Size] = {}
    for entry in found:
        info = entry.info
        if info is None:
            good = {second: name for second, name in (entry.clips or {}).items() if second not in entry.empty}
            info = probe(Path(entry.path) / good[min(good)])
        sizes[entry.movie] = info.width, info.height
    return sizes.__getitem__


def _picture_size(folder: Path) -> Size:
    for picture in sorted([*folder.glob("*.jpg"), *folder.glob("*.png")]):
        image = cv2.imread(str(picture))
        if image is not None:
            return image.shape[1], image.shape[0]
    raise DataError(
        f"{folder}: there is no readable picture of this movie, so its size is unknown. Pictures are written by "
        "tools/ava/process_ava_videos.py --kframe_root; or take sizes from --video_root or --size"
    )
