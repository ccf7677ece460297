"""The user's annotations as COCO JSON in the form of the fine-tuning guide. The work of create_annotations.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from alphaction.errors import DataError
from alphaction.preparation.prepare_collect import DataOptions, collect
from alphaction.preparation.prepare_evidence import count
from alphaction.preparation.prepare_report import Collected, said
from alphaction.preparation.prepare_videos import ProbeCache
from alphaction.preparation.prepare_write import annotations_text
from alphaction.utils.atomic import write_text


def create_annotations(options: DataOptions, output: str, *, force: bool) -> str:
    """Writes train.json, val.json and val.csv, and returns the report for the user.

    Args:
        options: videos and annotations.
        output: the folder for the three files.
        force: replace them if they exist.

    Raises:
        UserError: something cannot be used, or is not evident; nothing was written.
    """
    folder = Path(output)
    existing = [str(folder / name) for name in ("train.json", "val.json", "val.csv") if (folder / name).exists()]
    if existing and not force:
        raise DataError(f"{', '.join(existing)}: exists already. To replace: --force")
    cache = ProbeCache(folder.with_name(f".{folder.name}.probe.json"))
    made = collect(options, cache)
    texts = {f"{split}.json": json.dumps(coco_content(made, videos)) for split, videos in made.splits.items()}
    if made.split.val:
        texts["val.csv"] = annotations_text(made.gathered.table, made.split.val)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text=text)
    cache.remove()
    lines = [*said(made), f"Written to {folder}: {', '.join(texts)}"]
    for split, videos in made.splits.items():
        table = made.gathered.table
        lines.append(f"  {split}: {count(len(videos), 'video')}, {count(table.num_keyframes(videos), 'keyframe')}")
    return "\n".join(lines)


def coco_content(made: Collected, videos: Sequence[str]) -> dict[str, list[dict]]:
    """`images` with file_name "video/seconds.jpg", an annotation per action, boxes in pixels of the video."""
    table, sizes = made.gathered.table, {video.name: video.info for video in made.footage}
    images: list[dict] = []
    annotations: list[dict] = []
    for video in videos:
        width, height = sizes[video].width, sizes[video].height
        for time in table.keyframes(video):
            image = {"id": len(images), "file_name": f"{video}/{time!r}.jpg", "width": width, "height": height}
            images.append(image)
            for person in table.videos[video][time].values():
                x1, y1, x2, y2 = (v * s for v, s in zip(person.box, (width, height, width, height), strict=True))
                box = [round(value, 9) for value in (x1, y1, x2 - x1, y2 - y1)]
                for action in sorted(person.actions):
                    entry = {"id": len(annotations), "image_id": image["id"], "category_id": action, "bbox": box}
                    entry |= {"area": round(box[2] * box[3], 6), "iscrowd": 0}
                    annotations.append(entry | ({"person_id": person.person} if person.person else {}))
    classes = made.classes.list
    categories = [{"id": class_id, "name": name} for class_id, name in zip(classes.ids, classes.names, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}
