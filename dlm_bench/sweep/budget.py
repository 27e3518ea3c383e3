"""A sweep within a time: every point once, then again where the stated error is largest."""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dlm_bench.errors import ResultsError
from dlm_bench.results.record import Point, Record
from dlm_bench.sweep.plan import Model, Plan, model_of
from dlm_bench.sweep.run import Executor

LEAST_SECONDS = 1.0  # of sampling a point to a tolerance, as timing.estimate has it
SETTLE_SECONDS = 1.0  # of its warm-up, at least
LEAST_BUDGET = 1e-3  # seconds; what is left of one may be none
FIRST_SHARE = 0.4  # of the budget, for measuring every point once
# How a point is measured to say what the others will take.
LOOK = {"mode": "sampled", "warmup": 0, "repeats": 1, "nodes": 2, "tolerance": 1.0}
OF_TIMEOUT = 0.7  # of a point's time limit may go into sampling
WORTHWHILE = 1.25  # an error is to get smaller by this factor, or its point is left alone


@dataclass(frozen=True)
class Look:
    """What is known of a point: its model, its relative error, the seconds that its sampling took,
    and those that everything else about it took."""

    index: int
    model: tuple[str, ...]
    error: float
    sampling: float
    besides: float

    def seconds_to(self, error: float) -> float:
        """Seconds of sampling that bring the error down to this: four times as many halve it."""
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
    """Measure as `Executor.run` does, and use what is left of `budget` seconds to measure points
    again that are not within the sweep's tolerance.

    The first time a point gets its share, by its work, of FIRST_SHARE of the budget, and at least
    two rounds however long they take. Then points get what brings all of them to one and the same
    error, as small as the time allows: each at most once. Yields what `Executor.run` does; of two
    records of a point the later one is the better. `wanted_again` is asked right before a point
    starts again. `improve` is told, in the place of `begin`, a point that starts again, the how
    manyth it is, and of how many.
    """
    begun = clock()
    measuring = plan.sweep.measuring
    budget = max(budget, LEAST_BUDGET)
    per_work = FIRST_SHARE * budget / sum(plan.work)
    most = math.inf if plan.sweep.timeout is None else OF_TIMEOUT * plan.sweep.timeout

    def share(index: int) -> float:
        return min(measuring.max_seconds, per_work * plan.work[index], most)

    places = {identity: index for index, identity in enumerate(plan.identities())}
    best = plan.best_of(found)
    looks = [look for name, record in best.items() for look in look_at(plan, places[name], record)]
    measured, loaded = 0.0, set()
    for index, record, seconds in executor.run(plan, found, begin, share, wanted):
        looks += look_at(plan, index, record, seconds)
        measured += seconds
        loaded.add(model_of(plan.sweep.points[index]))
        yield index, record, seconds
    loading = (clock() - begun - measured) / max(1, len(loaded))
    improved = 0
    while looks:
        left = budget - (clock() - begun)
        target = common_error(looks, left, loading, measuring.tolerance)
        worth = [look for look in looks if look.error > WORTHWHILE * target]
        if not worth:
            return
        # The model at hand first: another one has to be loaded.
        look = max(worth, key=lambda look: (look.model == executor.model, look.error))
        looks.remove(look)
        if not wanted_again(look.index):
            continue
        improved += 1
        if improve is None:
            begin(look.index)
        else:
            improve(look.index, improved, improved + len(worth) - 1)
        sampling = min(look.seconds_to(target), max(most - look.besides, look.sampling))
        record, seconds = executor.measure(plan, look.index, sampling)
        yield look.index, record, seconds


def look_at(plan: Plan, index: int, record: Record, seconds: float = 0.0) -> list[Look]:
    """What a record, measured in `seconds`, tells of its point; nothing where there is no error
    that more sampling would reduce."""
    sampling = record.telemetry.get("region_seconds")
    if record.status != "ok" or record.error_estimate is None or sampling is None:
        return []
    besides = max(0.0, seconds - sampling)
    model = model_of(plan.sweep.points[index])
    return [Look(index, model, record.error_estimate, sampling, besides)]


def common_error(looks: Sequence[Look], left: float, loading: float, least: float) -> float:
    """The smallest error, but `least`, that all points can be brought to in `left` seconds, where
    each model takes `loading` seconds to load."""

    def cost(error: float) -> float:
        wanted = [look for look in looks if look.error > WORTHWHILE * error]
        models = {look.model for look in wanted}
        return loading * len(models) + sum(x.seconds_to(error) + x.besides for x in wanted)

    low, high = least, max(least, *(look.error for look in looks))
    if cost(low) <= left:
        return low
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if cost(middle) <= left else (middle, high)
    return high


@dataclass(frozen=True)
class Prediction:
    """Seconds that a sweep will take by a look at each of `lines`: if every point is within the
    tolerance as soon as can be, and if every point takes all of its `max_seconds`."""

    lines: int
    least: float
    most: float


def predict(
    executor: Executor,
    plan: Plan,
    found: Mapping[str, Record] = MappingProxyType({}),
    clock: Callable[[], float] = time.monotonic,
) -> Prediction:
    """Look at each line of a sweep by one round of its shortest point of which no record was found,
    and say what all such points will take. A round is scaled by the work of a point; what a point
    needs besides, and the loading of each model, are as in the look. Raises ResultsError if none
    can run."""
    missing = [
        (index, point)
        for index, point in enumerate(plan.sweep.points)
        if plan.identity_of(point) not in found
    ]
    if not missing:
        return Prediction(0, 0.0, 0.0)
    lines: dict[tuple[object, ...], list[tuple[int, Point]]] = {}
    for index, point in sorted(missing, key=lambda item: item[1].length):
        settings = (repr(point.options), point.batch, point.prompt_len)
        line = (model_of(point), point.sampler, *settings)
        lines.setdefault(line, []).append((index, point))
    measuring = plan.sweep.measuring
    look = measuring.model_copy(update=LOOK)
    looked = plan.model_copy(update={"sweep": plan.sweep.model_copy(update={"measuring": look})})
    loading: dict[Model, float] = {}
    looks, least, most = 0, 0.0, 0.0
    for members in sorted(lines.values()):
        first, shortest = members[0]
        begun = clock()
        record, seconds = executor.measure(looked, first)
        sampling = record.telemetry.get("region_seconds")
        if record.status != "ok" or sampling is None:
            continue
        looks += 1
        loading.setdefault(model_of(shortest), clock() - begun - seconds)
        besides = seconds - sampling + SETTLE_SECONDS
        for index, _ in members:
            each = sampling * plan.work[index] / plan.work[first]
            least += besides + max(measuring.repeats * each, LEAST_SECONDS)
            most += besides + max(2 * each, measuring.max_seconds)
    if not looks:
        raise ResultsError("no point of the sweep could be looked at")
    return Prediction(looks, least + sum(loading.values()), most + sum(loading.values()))
