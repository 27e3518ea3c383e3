"""Which point the next free one of several workers is to measure."""

from collections import Counter, deque
from collections.abc import Iterable

from dlm_bench.sweep.plan import Model, Plan, model_of
from dlm_bench.sweep.run import line_of


class Agenda:
    """The points of a plan that are still to do, handed out one at a time.

    The lengths of a line come in the order of the file, so that one which is too long keeps the
    longer ones from being tried. A worker stays with its model as long as there is a line of it
    that nobody is at, since another model has to be loaded; then it takes one that the fewest are
    at. Of lines that are alike in that the one with the most work left goes first: what takes
    longest must not be what all others wait for at the end. Only a worker that would have nothing
    to do takes the next length of a line that another is at.
    """

    def __init__(self, plan: Plan, todo: Iterable[int]) -> None:
        self._plan = plan
        self._lines: dict[str, deque[int]] = {}
        for index in todo:
            self._lines.setdefault(self._line(index), deque()).append(index)
        self._busy: Counter[str] = Counter()  # workers at each line
        self._at: Counter[Model] = Counter()  # and at each model

    def take(self, model: Model | None) -> int | None:
        """The index of a point for a worker that has loaded `model`; None if none is left."""
        open_lines = [line for line, points in self._lines.items() if points]
        if not open_lines:
            return None
        line = min(open_lines, key=lambda line: self._rank(line, model))
        index = self._lines[line].popleft()
        self._busy[line] += 1
        self._at[self._model(index)] += 1
        return index

    def done(self, index: int) -> None:
        """A point that was taken is measured."""
        self._busy[self._line(index)] -= 1
        self._at[self._model(index)] -= 1

    def _rank(self, line: str, model: Model | None) -> tuple[int, bool, int, float]:
        points = self._lines[line]
        own = self._model(points[0])
        work = sum(self._plan.work[index] for index in points)
        return self._busy[line], own != model, self._at[own], -work

    def _line(self, index: int) -> str:
        return line_of(self._plan.sweep.points[index])

    def _model(self, index: int) -> Model:
        return model_of(self._plan.sweep.points[index])
