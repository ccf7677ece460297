"""Reads JSON annotations: COCO in the forms that are about, and the original's AVA form.

Both have `images` and `annotations`. The moment of an image stands under `timestamp`, `time`, `second` (seconds),
`frame_idx`, `frame_index`, `frame` (frames), `frame_id` (either), or in its `file_name`: `movie/12.5.jpg`,
`movie/frame_000123.jpg`, `movie_000123.jpg`. Its video stands under `movie`, `video`, `video_name`, `video_id` (looked
up in the list `videos` if there is one), or in `file_name`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from alphaction.dataset.raw import parse_file_name
from alphaction.errors import DataError
from alphaction.formats.label_files import read_classes
from alphaction.preparation.sources import NO_BOX, NotAnnotations, Record, Source, box_of, number, some
from alphaction.structures import ClassList

_SECONDS = ("timestamp", "time", "second", "seconds", "frame_time")
_FRAMES = ("frame_idx", "frame_index", "frame_number", "frame_no", "frame")
_UNCLEAR = ("frame_id",)
_MOVIES = ("movie", "video", "video_name", "movie_id")
_PERSONS = ("person_id", "track_id", "instance_id")
_ACTIONS = ("action_ids", "category_ids", "category_id", "action_id", "actions", "action", "label", "category_name")
_FOLDERS = {"frames", "images", "img", "imgs", "rgb", "jpg", "keyframes"}  # between video and file
_NUMBERED = re.compile(
    r"(?:(?P<movie>.*?)[_\-. ]+)??(?P<word>frame|img|image|f)?[_\-. ]?(?P<number>\d+)", re.IGNORECASE
)


def read_json(path: Path) -> Source:
    """Reads either form; faulty entries are noted.

    Raises:
        NotAnnotations: a JSON file of something else, such as detected boxes.
        DataError: no valid JSON, or no image says its moment.
    """
    content = _load(path)
    annotations = content["annotations"]
    ava = any("action_ids" in entry for entry in annotations)
    source = Source(str(path), "AVA JSON" if ava else "COCO JSON", order="xywh" if ava else "")
    source.categories = _categories(content.get("categories"), source, ava=ava)
    videos = _videos(content.get("videos"), source)
    moments = _moments(content["images"], videos, source)
    named = set()
    for position, entry in enumerate(annotations):
        image = entry.get("image_id")
        moment = moments.get(_key(image))
        where = f"annotation {entry.get('id', position)}"
        if moment is None:
            source.fault(where, "image that is not listed or says no moment", f"image_id {image!r}")
            continue
        named.add(_key(image))
        _add(entry, where, moment, source)
    for key, (where, video, time, size) in moments.items():
        if key not in named:
            source.records.append(Record(where, video, time, None, (), size=size))
    return source


def _load(path: Path) -> dict[str, list[dict]]:
    try:
        content = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        keys = f"an object with the keys {some(content)}" if isinstance(content, dict) else ""
        boxes = isinstance(content, list) and content and isinstance(content[0], dict) and "score" in content[0]
        more = " of boxes with scores: a detector's, for --person-boxes" if boxes else ""
        raise NotAnnotations(f"it holds {keys or f'a {type(content).__name__}'}{more}, not 'images' and 'annotations'")
    if content.get("images") == []:
        raise DataError(f"{path}: its list 'images' is empty; export it again, with pictures and boxes")
    if not isinstance(content.get("images"), list):
        raise DataError(f"{path}: has no list 'images' (its keys: {some(content)})")
    for key in ("images", "annotations"):
        wrong = [entry for entry in content[key] if not isinstance(entry, dict)]
        if wrong:
            raise DataError(f"{path}: an entry of {key!r} is {wrong[0]!r}, expected an object")
    return content


def _categories(categories: object, source: Source, *, ava: bool) -> ClassList | None:
    if not isinstance(categories, (list, dict)) or not categories:
        return None
    try:
        classes = read_classes(categories)
    except DataError as error:
        raise DataError(f"{source.path}: 'categories': {error}") from None
    # In the AVA form a lone "person" is the detector's class.
    return None if ava and [name.casefold() for name in classes.names] == ["person"] else classes


def _videos(videos: object, source: Source) -> dict[object, str]:
    """Name of each entry of the list `videos`, by its id; other names of it become aliases."""
    names: dict[object, str] = {}
    for entry in videos if isinstance(videos, list) else ():
        said = [entry.get(key) for key in ("file_name", "name", "video_name")] if isinstance(entry, dict) else []
        found = list(dict.fromkeys(str(name) for name in said if name))
        if found and entry.get("id") is not None:
            names[_key(entry["id"])] = found[0]
            source.aliases[found[0]] = (*found[1:], str(entry["id"]))
    return names


def _moments(
    images: Sequence[dict], videos: dict[object, str], source: Source
) -> dict[object, tuple[str, str, float, tuple[int, int]]]:
    """(where, video, time as written, size) of each image by its id."""
    keys = [key for key in (*_SECONDS, *_FRAMES, *_UNCLEAR) if any(image.get(key) is not None for image in images)]
    key = keys[0] if keys else ""
    source.times = "seconds" if key in _SECONDS else "frames" if key in _FRAMES else ""
    source.times_from = f"key {key!r} of the images" if key else "the images' file_name"
    source.frame_words = key in _FRAMES or key in _UNCLEAR
    moments: dict[object, tuple[str, str, float, tuple[int, int]]] = {}
    words = 0
    for position, image in enumerate(images):
        where = f"image {image.get('id', position)}"
        name = image.get("file_name")
        movie, time, word = moment_from_name(str(name)) if isinstance(name, str) else ("", None, False)
        words += word
        given = next((image[k] for k in _MOVIES if image.get(k) not in (None, "")), None)
        if given is None and image.get("video_id") is not None:
            given = videos.get(_key(image["video_id"]), None if movie else image["video_id"])
        movie = str(given).strip() if isinstance(given, (str, int)) else movie
        time = number(image.get(key)) if key else time
        if not movie or time is None:
            source.fault(where, "image that does not say its video and its time", f"file_name {name!r}")
            continue
        size = (int(number(image.get("height")) or 0), int(number(image.get("width")) or 0))
        moments[_key(image.get("id", position))] = (where, movie, time, size)
        for alias in (image.get("id"), name):
            if isinstance(alias, (int, str)):
                source.images.setdefault(alias, (movie, time))
    if not moments:
        raise DataError(
            f"{source.path}: no image says its video and its time. Expected 'video' and 'timestamp' (or 'frame_idx'), "
            f"or a 'file_name' such as 'video_1/12.5.jpg'; got {images[0]!r}"
        )
    if not key and words:
        source.frame_words = True
        source.times_from = "the images' file_name, where 'frame' or 'img' stands before the number"
    return moments


def moment_from_name(name: str) -> tuple[str, float | None, bool]:
    """(video, number, whether a word says that it is a frame's) from a picture's file name; ("", None, ..) if none."""
    plain = parse_file_name(name)
    path = PurePosixPath(name.replace("\\", "/"))
    folders = [part for part in path.parts[:-1] if part.casefold() not in _FOLDERS and part not in ("/", ".", "..")]
    if plain is not None:
        return (folders[-1] if folders else plain[0]), plain[1], False
    match = _NUMBERED.fullmatch(path.stem)
    if match is None:
        return "", None, False
    movie = folders[-1] if folders else (match["movie"] or "")
    return movie, float(match["number"]), bool(match["word"])


def _add(entry: dict, where: str, moment: tuple[str, str, float, tuple[int, int]], source: Source) -> None:
    _, video, time, size = moment
    value = next((entry[key] for key in _ACTIONS if entry.get(key) is not None), None)
    written = value if isinstance(value, list) else [] if value is None else [value]
    actions = [action for part in written if (action := _action(part)) is not None]
    if len(actions) < len(written):
        source.fault(where, "action that is neither a whole number nor a text", value)
        return
    box = box_of(entry["bbox"]) if isinstance(entry.get("bbox"), (list, tuple)) else None
    if box is None:
        source.fault(where, NO_BOX, entry.get("bbox"))
    elif not actions:
        source.fault(where, "box without an action", entry)
    else:
        attributes = entry.get("attributes")
        attributes = attributes if isinstance(attributes, dict) else {}
        person = next((part[key] for part in (entry, attributes) for key in _PERSONS if part.get(key) is not None), "")
        area = number(entry.get("area")) or 0.0
        source.records.append(Record(where, video, time, box, tuple(actions), str(person), size, area))


def _action(value: object) -> int | str | None:
    """A class id or a name; None if it is neither."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not str(value).strip():
        return None
    return value


def _key(value: object) -> object:
    """7 and "7" are the same id."""
    text = str(value).strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else text
