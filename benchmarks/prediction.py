"""How well and how fast prediction goes over a long video whose truth is known:

python train_net.py --config-file config_files/quickstart.yaml
python benchmarks/prediction.py --weights data/output/quickstart/model_final.pth

Draws a video as those of the quickstart set, only longer, with figures that turn to another action every 1.4 s,
predicts it 4 times a second, and compares: the scores at every moment with what the figures do then (frame mAP), and
the events with the true ones. `--boxes true` gives it the figures' places, `--boxes head` lets the person head find
them.
"""

from __future__ import annotations

import argparse
import pathlib
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphaction import Predictor
from alphaction.evaluation.from_files import evaluate_files
from alphaction.prediction.boxes.persons import Seen
from alphaction.prediction.events import Event, EventRule, find_events
from alphaction.prediction.records import Moment
from alphaction.structures import ClassList
from alphaction.synthetic.planner import SceneOptions, plan_scene
from alphaction.synthetic.render import figure_box
from alphaction.synthetic.scene import Scene
from alphaction.synthetic.video import write_video

FPS = 25
OVERLAP = 0.5  # IoU in time at which a true event counts as found


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Takes about 2 minutes on two idle cores.",
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint of the quickstart training")
    parser.add_argument("--boxes", choices=("true", "head"), default="true")
    parser.add_argument("--seconds", type=float, default=120.0, help="length of the video (120)")
    parser.add_argument("--detect-rate", type=float, default=4.0, help="moments per second (4)")
    parser.add_argument("--box-threshold", type=float, help="lowest score of a person (TEST.BOX_THRESH)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", default="", metavar="FILE", help="where the video is kept")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    rng = np.random.default_rng([args.seed, 7])
    scene = plan_scene(rng, SceneOptions(seconds=args.seconds))
    predictor = Predictor.from_checkpoint(args.weights)
    with tempfile.TemporaryDirectory() as folder:
        video = pathlib.Path(args.keep or f"{folder}/long.mp4")
        write_video(video, scene, rng=rng, fps=FPS)
        boxes = "head" if args.boxes == "head" else lambda seconds, image: true_persons(scene, seconds)
        begin = time.perf_counter()
        with predictor(video, boxes=boxes, detect_rate=args.detect_rate, box_threshold=args.box_threshold) as run:
            moments = list(run)
        seconds = time.perf_counter() - begin
        print(f"| moments and boxes | {scene.duration:.0f} s, {len(moments)} moments, {run.num_boxes} boxes |")
        print(f"| speed | {seconds:.1f} s: {scene.duration / seconds:.2f} times as fast as the video |")
        print(f"| memory | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most |")
        classes = predictor.classes
        middle = {min(moments, key=lambda m: abs(m.time - beat.keyframe)).time for beat in scene.beats}
        print(f"| frame mAP, all moments | {frame_map(scene, moments, classes, folder):.4f} |")
        near = [moment for moment in moments if moment.time in middle]
        print(f"| frame mAP, moments in the middle of an action | {frame_map(scene, near, classes, folder):.4f} |")
    if args.boxes == "head":
        print(f"| persons found (IoU 0.5) | {person_recall(scene, moments):.4f} |")
        return
    truth = true_events(scene, classes)
    for smooth in (EventRule().smooth, 0.5, 0.0):
        found = find_events(moments, rule=EventRule(smooth=smooth), classes=len(classes), start=0.0, end=scene.duration)
        print(f"| events, --event-smooth {smooth:g} | {compare(truth, found)} |")
    for k, name in enumerate(classes.names):  # of the last one
        comparison = compare([event for event in truth if event.action == k], [e for e in found if e.action == k])
        print(f"| {name} | {comparison} |")


def true_persons(scene: Scene, seconds: float) -> Seen:
    boxes = [figure_box(look, scene.pose(i, seconds), scene.size) for i, look in enumerate(scene.looks)]
    count = len(boxes)
    edges = np.array(boxes, np.float32) - np.array([0, 0, 1, 1], np.float32)
    return Seen(edges, np.ones(count, np.float32), np.arange(count))


def frame_map(scene: Scene, moments: Sequence[Moment], classes: ClassList, folder: str) -> float:
    height, width = scene.size
    truth, found = [], []
    for moment in moments:
        key = f"long,{moment.time:.4f}"
        beat = scene.beats[scene.beat_at(moment.time)]
        for figure, act in enumerate(beat.acts):
            x1, y1, x2, y2 = figure_box(scene.looks[figure], scene.pose(figure, moment.time), scene.size)
            box = f"{x1 / width:.5f},{y1 / height:.5f},{x2 / width:.5f},{y2 / height:.5f}"
            truth += [f"{key},{box},{classes.ids[classes.names.index(name)]},{figure}" for name in act.actions]
        for person in moment.persons:
            x1, y1, x2, y2 = person.box
            box = f"{x1 / width:.5f},{y1 / height:.5f},{(x2 + 1) / width:.5f},{(y2 + 1) / height:.5f}"
            found += [f"{key},{box},{classes.ids[k]},{score:.6f}" for k, score in enumerate(person.scores.tolist())]
    paths = [pathlib.Path(folder) / name for name in ("truth.csv", "found.csv")]
    for path, rows in zip(paths, (truth, found), strict=True):
        path.write_text("\n".join(rows) + "\n")
    return evaluate_files(*paths).mAP


def person_recall(scene: Scene, moments: Sequence[Moment]) -> float:
    hits = total = 0
    for moment in moments:
        ours = np.array([person.box for person in moment.persons]).reshape(-1, 4)
        for box in true_persons(scene, moment.time).boxes:
            total += 1
            hits += bool(len(ours)) and bool((_iou(box, ours) >= 0.5).any())
    return hits / total


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = (high - low + 1).clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2] + 1).prod(axis=1)
    return common / (areas + (box[2:] - box[:2] + 1).prod() - common)


def true_events(scene: Scene, classes: ClassList) -> list[Event]:
    """Successive beats in which a figure keeps an action are one event."""
    events: list[Event] = []
    open_since: dict[tuple[int, str], float] = {}
    for beat in [*scene.beats, None]:
        for figure in range(len(scene.looks)):
            for name in classes.names:
                acts = beat is not None and name in beat.acts[figure].actions
                start = open_since.get((figure, name))
                if acts and start is None:
                    open_since[figure, name] = beat.start
                elif not acts and start is not None:
                    end = scene.duration if beat is None else beat.start
                    events.append(Event(figure, classes.names.index(name), start, end, 1.0))
                    del open_since[figure, name]
    return events


@dataclass
class Comparison:
    found: int
    truth: int
    hits: int
    errors: list[float]

    def __str__(self) -> str:
        median, mean = (float(f(self.errors)) if self.errors else float("nan") for f in (np.median, np.mean))
        return (
            f"{self.truth} true, {self.found} found; {self.hits / max(self.truth, 1):.3f} of the true ones found (IoU "
            f"in time >= {OVERLAP:g}), {self.hits / max(self.found, 1):.3f} of the found ones true; starts and ends "
            f"are off by {median:.2f} s (median), {mean:.2f} s (mean)"
        )


def compare(truth: Sequence[Event], found: Sequence[Event]) -> Comparison:
    left = list(found)
    errors: list[float] = []
    hits = 0
    for event in truth:
        same = [other for other in left if (other.track, other.action) == (event.track, event.action)]
        best = max(same, key=lambda other: _overlap(event, other), default=None)
        if best is not None and _overlap(event, best) >= OVERLAP:
            hits += 1
            left.remove(best)
            errors += [abs(event.start - best.start), abs(event.end - best.end)]
    return Comparison(len(found), len(truth), hits, errors)


def _overlap(a: Event, b: Event) -> float:
    common = min(a.end, b.end) - max(a.start, b.start)
    return max(common, 0.0) / (max(a.end, b.end) - min(a.start, b.start))


if __name__ == "__main__":
    main()
