"""The queue of a plan's points for several workers."""

from collections import Counter, deque
from collections.abc import Iterable

from dlm_bench.sweep.plan import ModelKey, Plan, model_key
from dlm_bench.sweep.run import series_key


class WorkQueue:
    """The points of a plan that are still to do, handed out singly.

    The lengths of a series come in the order of the file, so a length that is too long keeps longer
    lengths from being tried. A worker stays with a model while the model has a free series, since
    another model must be loaded; then comes the model with the fewest workers. Among such series
    the most work goes first, so nobody waits for a long series at the end. Only an idle worker
    takes the next length of a busy series.
    """

    def __init__(self, plan: Plan, todo: Iterable[int]) -> None:
        self._plan = plan
        self._series: dict[str, deque[int]] = {}
        for index in todo:
            self._series.setdefault(self._series_of(index), deque()).append(index)
        self._busy: Counter[str] = Counter()  # workers at each series
        self._at: Counter[ModelKey] = Counter()  # and at each model

    def take(self, model: ModelKey | None) -> int | None:
        """Return the index of a point for a worker with `model` loaded; None if none is left."""
        waiting = [key for key, points in self._series.items() if points]
        if not waiting:
            return None
        series = min(waiting, key=lambda key: self._rank(key, model))
        index = self._series[series].popleft()
        self._busy[series] += 1
        self._at[self._model_of(index)] += 1
        return index

    def done(self, index: int) -> None:
        """Take note of the end of a point."""
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
