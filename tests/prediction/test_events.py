"""Events: by hand, against the definition computed slowly over whole lists, and what holds whatever the scores."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.errors import UserError
from alphaction.prediction.events import Event, EventFinder, EventRule, find_events
from alphaction.prediction.records import Moment, PersonRecord

PLAIN = {"smooth": 0.0, "min_duration": 0.0, "max_gap": 0.0}


def moments_of(*tracks, times=None):
    """Moments from one list of scores per track: None = absent, a number, or a list over classes."""
    length = max(len(track) for track in tracks)
    times = [float(i) for i in range(length)] if times is None else times
    found = []
    for i in range(length):
        persons = [
            PersonRecord(number, (0.0, 0.0, 9.0, 9.0), 1.0, np.atleast_1d(np.array(track[i], np.float32)))
            for number, track in enumerate(tracks)
            if i < len(track) and track[i] is not None
        ]
        found.append(Moment(times[i], (10, 10), persons))
    return found


def spans(scores, *, end=None, times=None, **options):
    events = find_events(moments_of(scores, times=times), rule=EventRule(**(PLAIN | options)), classes=1, end=end)
    return [(event.start, event.end) for event in events]


def test_an_action_begins_and_ends_between_moments():
    assert spans([0, 0, 1, 1, 1, 0, 0]) == [(1.5, 4.5)]
    assert spans([0, 1, 0, 0], times=[0.0, 0.5, 2.0, 9.0]) == [(0.25, 1.25)]


def test_the_first_and_last_moment_reach_to_the_ends_of_the_video():
    assert spans([1, 1, 1]) == [(0, 2)]
    assert spans([1, 1, 1], end=2.75) == [(0, 2.75)]
    moments = moments_of([1, 1], times=[0.5, 1.5])
    assert find_events(moments, rule=EventRule(**PLAIN), classes=1, start=0.0) == [Event(0, 0, 0.0, 1.5, 1.0)]


def test_between_the_two_thresholds_an_action_goes_on_but_does_neither_begin_nor_end():
    assert spans([0.4, 0.4, 0.6, 0.4, 0.4, 0.2, 0.4], high=0.5, low=0.3) == [(1.5, 2.5)]
    assert spans([0.4, 0.6, 0.4, 0.4, 0.4, 0.6, 0.4], high=0.5, low=0.3) == [(0.5, 5.5)]
    assert spans([0.4, 0.6, 0.4, 0.2, 0.4, 0.6, 0.4], high=0.5, low=0.3) == [(0.5, 1.5), (4.5, 5.5)]


@pytest.mark.parametrize("smooth", [0.0, 0.5, 1.0, 2.0])
def test_starts_and_ends_are_told_alike(smooth):
    times = [i / 8 for i in range(17)]
    scores = [
        min(1.0, max(0.0, 1.5 - abs(time - 1.0) / 0.5)) for time in times
    ]  # rises as it falls, 0.5 at 0.5 and 1.5
    [(start, end)] = spans(scores, times=times, smooth=smooth)
    assert 1 - start == end - 1


def test_short_gaps_are_bridged_and_long_ones_are_not():
    assert spans([1, 0, 1, 0, 0, 1], max_gap=1.5) == [(0, 2.5), (4.5, 5)]
    assert spans([1, 0, 1, 0, 0, 1], max_gap=1.0) == [(0, 0.5), (1.5, 2.5), (4.5, 5)]
    assert spans([1, 0, 1, 0, 0, 1], max_gap=2.1) == [(0, 5)]


def test_a_person_out_of_sight_for_less_than_a_gap_goes_on():
    assert spans([1, None, 1, None, None, 1], max_gap=1.5) == [(0, 2.5), (4.5, 5)]
    assert spans([0.6, None, 0.4, 0.4, 0.6], max_gap=1.5, high=0.5, low=0.3) == [(0, 4)]
    assert spans([0.6, None, None, 0.4, 0.6], max_gap=1.5, high=0.5, low=0.3) == [(0, 0.5), (3.5, 4)]


def test_an_action_begins_anew_after_an_absence_even_if_smoothing_looks_across_it():
    # smoothed: 1, 0.8, absent, 0.7, 0.7, 0.7, 0.8
    rule = {"smooth": 4.0, "high": 0.75, "low": 0.5, "max_gap": 0.5}
    assert spans([1, 1, None, 0.4, 0.4, 1, 1], **rule) == [(0, 1.5), (5.5, 6)]


def test_short_events_are_dropped_after_gaps_are_bridged():
    assert spans([0, 1, 0, 0, 0, 1, 1, 0], min_duration=1.5) == [(4.5, 6.5)]
    assert spans([0, 1, 0, 1, 0, 0], min_duration=2.0, max_gap=1.5) == [(0.5, 3.5)]


def test_smoothing_removes_a_flicker_and_a_dropout():
    assert spans([0, 0, 1, 0, 0, 0], smooth=2.0) == []
    assert spans([1, 1, 0, 1, 1], smooth=2.0) == [(0, 4)]


def test_the_score_is_the_mean_over_the_event_with_its_gaps():
    moments = moments_of([0.25, 0.5, 0.75, 0.0, 1.0, 0.0])
    rule = EventRule(**(PLAIN | {"max_gap": 1.5}))
    assert find_events(moments, rule=rule, classes=1) == [Event(0, 0, 0.5, 4.5, (0.5 + 0.75 + 0 + 1) / 4)]


def test_of_an_exclusive_group_only_the_best_counts():
    moments = moments_of([[0.9, 0.8, 0.7], [0.6, 0.8, 0.7], [0.6, 0.8, 0.7]])
    rule = EventRule(**PLAIN)
    assert len(find_events(moments, rule=rule, classes=3)) == 3
    found = find_events(moments, rule=rule, classes=3, exclusive=[slice(0, 2)])
    assert [(e.action, e.start, e.end) for e in found] == [(0, 0, 0.5), (1, 0.5, 2), (2, 0, 2)]


def test_an_event_comes_as_soon_as_it_is_over_and_persons_are_forgotten():
    finder = EventFinder(rule=EventRule(max_gap=1.0, smooth=1.0), classes=1)
    came = {}
    for moment in moments_of([1] * 8 + [None] * 992, [None] * 500 + [1] * 500, times=[i / 4 for i in range(1000)]):
        for event in finder.update(moment):
            came[event.track] = moment.time
        assert len(finder._persons) <= 1
        assert sum(len(p.past) + len(p.waiting) for p in finder._persons.values()) <= 8
    assert came == {0: 3.0}  # the gap is as long as max_gap once the moment at 2.75 s is judged
    assert [event.track for event in finder.finish()] == [1]


def test_no_moments():
    assert find_events([], rule=EventRule(), classes=1) == []
    assert find_events(moments_of([None, None]), rule=EventRule(), classes=1) == []


def test_times_increase():
    with pytest.raises(ValueError, match="increasing"):
        spans([1, 1], times=[1.0, 1.0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"low": 0.6}, "events: low is 0.6, above high, 0.5"),
        ({"high": 1.5}, "events: high is 1.5, expected a score above 0 and up to 1"),
        ({"low": 0.0}, "events: low is 0.0"),
        ({"max_gap": -1.0}, "events: max_gap is -1.0, expected seconds, 0 or more"),
        ({"smooth": float("nan")}, "events: smooth is nan"),
    ],
)
def test_rules_that_cannot_be_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        EventRule(**options)


def slow_events(moments, rule, classes, exclusive, end):
    """The definition in the module's words, over whole lists. Multiples of 1/8 s: no rounding."""
    times = [m.time for m in moments]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(times)]
    covers = list(zip([times[0], *middles], [*middles, max(end, times[-1])], strict=True))
    found = set()
    for track in sorted({p.track for m in moments for p in m.persons}):
        scores = {i: p.scores for i, m in enumerate(moments) for p in m.persons if p.track == track}
        smoothed = {
            i: np.mean([scores[j] for j in scores if abs(times[j] - times[i]) <= rule.smooth / 2], axis=0)
            for i in scores
        }
        for k in range(classes):
            runs, on, before = [], False, None
            for i in sorted(scores):
                value = smoothed[i][k]
                for group in exclusive:
                    members = range(classes)[group]
                    if k in members and k != members[int(np.argmax(smoothed[i][group]))]:
                        value = 0
                absence = 0 if before is None else covers[i][0] - covers[before][1]
                if absence > 0 and absence >= rule.max_gap:
                    on = False
                went_on, sure = on, value >= rule.high
                on = sure or (on and value >= rule.low)
                if sure:
                    gap = covers[i][0] - covers[runs[-1][-1]][1] if runs else None
                    if runs and (went_on or gap == 0 or gap < rule.max_gap):
                        runs[-1].append(i)
                    else:
                        runs.append([i])
                before = i
            for run in runs:
                start, stop = covers[run[0]][0], covers[run[-1]][1]
                if stop - start >= rule.min_duration:
                    members = [scores[i][k] for i in scores if run[0] <= i <= run[-1]]
                    found.add((track, k, start, stop, round(float(np.mean(members)), 5)))
    return found


eighth = st.integers(0, 24).map(lambda n: n / 8)
score = st.integers(0, 8).map(lambda n: n / 8)
person = st.one_of(st.none(), st.lists(score, min_size=3, max_size=3))


@st.composite
def rules(draw):
    low, high = sorted(draw(st.tuples(*[st.integers(1, 8)] * 2)))
    return EventRule(high / 8, low / 8, draw(eighth), draw(eighth), draw(eighth))


@st.composite
def videos(draw):
    length = draw(st.integers(1, 14))
    steps = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0]), min_size=length, max_size=length))
    tracks = draw(st.lists(st.lists(person, min_size=length, max_size=length), min_size=1, max_size=2))
    return moments_of(*tracks, times=list(itertools.accumulate(steps)))


@settings(max_examples=300, deadline=None)
@given(videos(), rules(), st.sampled_from([(), (slice(0, 2),)]), eighth)
def test_events_are_those_of_the_definition(moments, rule, exclusive, more):
    end = moments[-1].time + more
    found = find_events(moments, rule=rule, classes=3, exclusive=exclusive, end=end)
    exact = {(e.track, e.action, e.start, e.end, round(e.score, 5)) for e in found}
    assert len(exact) == len(found)
    assert exact == slow_events(moments, rule, 3, exclusive, end)


@settings(max_examples=100, deadline=None)
@given(videos(), rules())
def test_events_of_a_person_and_action_follow_each_other_within_the_video(moments, rule):
    last = {}
    for event in find_events(moments, rule=rule, classes=3):
        assert last.get((event.track, event.action), moments[0].time) <= event.start <= event.end <= moments[-1].time
        assert 0 <= event.score <= 1
        last[event.track, event.action] = event.end
