"""A sweep within a time: every point once, then again those with the largest stated errors."""

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dlm_bench.errors import ResultsError
from dlm_bench.results.identity import SAMPLED_TOLERANCE
from dlm_bench.results.interval import relative_error
from dlm_bench.results.record import Point, Record
from dlm_bench.sweep.plan import ModelKey, Plan, model_key
from dlm_bench.sweep.run import Executor
from dlm_bench.timing.settings import OF_WHOLE_DECODES

MIN_SAMPLING_SECONDS = 1.0  # to a tolerance, as in timing.sampled
SETTLE_SECONDS = 1.0  # of the warm-up, at least
MIN_BUDGET = 1e-3  # seconds; a budget may be used up already
FIRST_SHARE = 0.4  # of the budget, for measuring every point once
# How a point is measured to predict the others.
PILOT_SETTINGS = {"mode": "sampled", "warmup": 0, "repeats": 1, "nodes": 2, "tolerance": 1.0}
PILOT_SETTINGS |= dict.fromkeys(OF_WHOLE_DECODES, 0.0)
TIMEOUT_SHARE = 0.7  # of a point's time limit may go into sampling
MIN_GAIN = 1.25  # in error; points that would gain less are left alone


@dataclass(frozen=True)
class Improvable:
    """A measured point with an error that more sampling would reduce.

    index: in the plan. model: the key of the point's model. error: relative.
    sampling, overhead: seconds of sampling, and of everything else.
    """

    index: int
    model: tuple[str, ...]
    error: float
    sampling: float
    overhead: float

    def seconds_to(self, error: float) -> float:
        """Return the seconds of sampling for this error: four times as many halve an error."""
        return self.sampling * (self.error / error) ** 2


def run_within(
    budget: float,
    executor: Executor,
    plan: Plan,
    found: Sequence[Record],
    begin: Callable[[int], object],
    clock: Callable[[], float] = time.monotonic,
    *,
    wanted: Callable[[int], bool] = lambda index: True,
    wanted_again: Callable[[int], bool] = lambda index: True,
    improve: Callable[[int, int, int], object] | None = None,
) -> Generator[tuple[int, Record, float], None, None]:
    """Measure as `Executor.run` does, then use the rest of `budget` seconds for points whose error
    is above the sweep's tolerance.

    At first a point gets a share of FIRST_SHARE of the budget, by work, and at least two rounds.
    Then all points are brought to a common error, as small as the time allows, each measured again
    at most once. Yields as `Executor.run` does; the later record of a point is the better.

    wanted_again: asked right before a point starts again; False leaves the point out.
    improve: called instead of `begin` for a point that starts again, with index, number and count.
    """
    begun = clock()
    measuring = plan.sweep.measuring
    budget = max(budget, MIN_BUDGET)
    per_work = FIRST_SHARE * budget / sum(plan.work)
    most = math.inf if plan.sweep.timeout is None else TIMEOUT_SHARE * plan.sweep.timeout

    def share(index: int) -> float:
        return min(measuring.max_seconds, per_work * plan.work[index], most)

    indices = {identity: index for index, identity in enumerate(plan.identities())}
    best = plan.best_of(found)
    open_points = [
        each for name, record in best.items() for each in improvable_of(plan, indices[name], record)
    ]
    measured, loaded = 0.0, set()
    for index, record, seconds in executor.run(plan, found, begin, share, wanted):
        open_points += improvable_of(plan, index, record, seconds)
        measured += seconds
        loaded.add(model_key(plan.sweep.points[index]))
        yield index, record, seconds
    loading = (clock() - begun - measured) / max(1, len(loaded))
    improved = 0
    while open_points:
        left = budget - (clock() - begun)
        tolerance = SAMPLED_TOLERANCE if measuring.tolerance is None else measuring.tolerance
        target = common_error(open_points, left, loading, tolerance)
        worth = [each for each in open_points if each.error > MIN_GAIN * target]
        if not worth:
            return
        # The model at hand first: another one has to be loaded.
        point = max(worth, key=lambda each: (each.model == executor.model, each.error))
        open_points.remove(point)
        if not wanted_again(point.index):
            continue
        improved += 1
        if improve is None:
            begin(point.index)
        else:
            improve(point.index, improved, improved + len(worth) - 1)
        sampling = min(point.seconds_to(target), max(most - point.overhead, point.sampling))
        record, seconds = executor.measure(plan, point.index, sampling)
        yield point.index, record, seconds


def improvable_of(plan: Plan, index: int, record: Record, seconds: float = 0.0) -> list[Improvable]:
    """Return the point of a record, measured in `seconds`, if more sampling would reduce the
    error."""
    sampling = record.telemetry.get("region_seconds")
    error = record.error_estimate
    if error is None and record.mode == "sampled" and len(record.seconds) > 1:
        # An error of two rounds is not worth stating, but tells points apart.
        error = relative_error(record.seconds, fewest=2)
    if record.status != "ok" or record.mode != "sampled" or error is None or sampling is None:
        return []
    overhead = max(0.0, seconds - sampling)
    model = model_key(plan.sweep.points[index])
    return [Improvable(index, model, error, sampling, overhead)]


def common_error(points: Sequence[Improvable], left: float, loading: float, least: float) -> float:
    """Return the smallest error, but `least`, for all points within `left` seconds.

    Each model takes `loading` seconds to load.
    """

    def cost(error: float) -> float:
        wanted = [each for each in points if each.error > MIN_GAIN * error]
        models = {each.model for each in wanted}
        return loading * len(models) + sum(x.seconds_to(error) + x.overhead for x in wanted)

    low, high = least, max(least, *(each.error for each in points))
    if cost(low) <= left:
        return low
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if cost(middle) <= left else (middle, high)
    return high


@dataclass(frozen=True)
class Prediction:
    """The time that a sweep will take, by a pilot run of a point of each series.

    series: with a pilot run.
    least: seconds if every point reaches the tolerance at once.
    most: seconds if every point takes all of `max_seconds`.
    """

    series: int
    least: float
    most: float


def predict(
    executor: Executor,
    plan: Plan,
    found: Mapping[str, Record] = MappingProxyType({}),
    clock: Callable[[], float] = time.monotonic,
    *,
    runs: int = 1,
) -> Prediction:
    """Run a pilot of each series, a round of the shortest point without a record, and predict the
    time for all such points of this many runs.

    A round is scaled by the work of a point; overhead and the loading of each model are taken from
    the pilot. Raises ResultsError if no pilot can run.
    """
    names = [plan.of_run(run).identities() for run in range(1, runs + 1)]
    times = Counter(n for each in names for n, name in enumerate(each) if name not in found)
    missing = [(index, plan.sweep.points[index]) for index in sorted(times)]
    if not missing:
        return Prediction(0, 0.0, 0.0)
    series: dict[tuple[object, ...], list[tuple[int, Point]]] = {}
    for index, point in sorted(missing, key=lambda item: item[1].length):
        key = (model_key(point), point.sampler, repr(point.options), point.batch, point.prompt_len)
        series.setdefault(key, []).append((index, point))
    measuring = plan.sweep.measuring
    settings = measuring.model_copy(update=PILOT_SETTINGS)
    pilot = plan.model_copy(update={"sweep": plan.sweep.model_copy(update={"measuring": settings})})
    # In mode "auto" a point may be timed by whole decodes.
    of_whole = measuring.min_warmup + measuring.min_time + measuring.soak
    loading: dict[ModelKey, float] = {}
    pilots, least, most = 0, 0.0, 0.0
    for members in sorted(series.values()):
        first, shortest = members[0]
        begun = clock()
        record, seconds = executor.measure(pilot, first)
        sampling = record.telemetry.get("region_seconds")
        if record.status != "ok" or sampling is None:
            continue
        pilots += 1
        loading.setdefault(model_key(shortest), clock() - begun - seconds)
        overhead = seconds - sampling + SETTLE_SECONDS
        for index, _ in members:
            each = sampling * plan.work[index] / plan.work[first]
            sampled = overhead + max(measuring.repeats * each, MIN_SAMPLING_SECONDS)
            least += times[index] * sampled
            most += times[index] * (overhead + max(2 * each, measuring.max_seconds) + of_whole)
    if not pilots:
        raise ResultsError("no point could be measured, so nothing can be predicted")
    load = sum(loading.values()) * max(times.values())  # by each run anew
    return Prediction(pilots, least + load, most + load)
