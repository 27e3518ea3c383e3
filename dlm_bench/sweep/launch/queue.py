"""The queue that hands the points of a plan to several workers."""

from collections import Counter, deque
from collections.abc import Iterable

from dlm_bench.sweep.plan import ModelKey, Plan, model_key
from dlm_bench.sweep.run import series_key


class WorkQueue:
    """The points of a plan that are still to do, handed out one at a time.

    The lengths of a series come in the order of the file, so that one which is too long keeps the
    longer ones from being tried. A worker stays with its model as long as there is a series of it
    that nobody is at, since another model has to be loaded; then it takes one that the fewest are
    at. Of series that are alike in that the one with the most work left goes first: what takes
    longest must not be what all others wait for at the end. Only a worker that would have nothing
    to do takes the next length of a series that another is at.
    """

    def __init__(self, plan: Plan, todo: Iterable[int]) -> None:
        self._plan = plan
        self._series: dict[str, deque[int]] = {}
        for index in todo:
            self._series.setdefault(self._series_of(index), deque()).append(index)
        self._busy: Counter[str] = Counter()  # workers at each series
        self._at: Counter[ModelKey] = Counter()  # and at each model

    def take(self, model: ModelKey | None) -> int | None:
        """The index of a point for a worker that has loaded `model`; None if none is left."""
        waiting = [key for key, points in self._series.items() if points]
        if not waiting:
            return None
        series = min(waiting, key=lambda key: self._rank(key, model))
        index = self._series[series].popleft()
        self._busy[series] += 1
        self._at[self._model_of(index)] += 1
        return index

    def done(self, index: int) -> None:
        """A point that was taken is measured."""
        self._busy[self._series_of(index)] -= 1
        self._at[self._model_of(index)] -= 1

    def _rank(self, series: str, model: ModelKey | None) -> tuple[int, bool, int, float]:
        points = self._series[series]
        own = self._model_of(points[0])
        work = sum(self._plan.work[index] for index in points)
        return self._busy[series], own != model, self._at[own], -work

    def _series_of(self, index: int) -> str:
        return series_key(self._plan.sweep.points[index])

    def _model_of(self, index: int) -> ModelKey:
        return model_key(self._plan.sweep.points[index])
