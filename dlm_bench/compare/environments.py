"""Differences between two sides' environments and between their ways to execute a point."""

from collections.abc import Iterable, Sequence

from dlm_bench.errors import ResultsError
from dlm_bench.results.record import Record

EXPECTED_DIFFERENCES = {"commit", "dlm-bench", "plugins"}  # the subject of a comparison
# Seldom of consequence; on a CPU `hardware` names the CPU too.
MINOR_DIFFERENCES = {"platform", "python", "cpu"}

Records = Sequence[Record]


def environment_differences(pairs: Iterable[tuple[Records, Records]]) -> dict[str, str]:
    """Name the differences between the sides of matched points, e.g. `torch: 2.11 / 2.13`, without
    EXPECTED_DIFFERENCES."""
    found: dict[str, str] = {}
    for before, after in pairs:
        environments = [_environment_of(before), _environment_of(after)]
        if not all(environments):
            continue
        for name in (environments[0] | environments[1]).keys() - EXPECTED_DIFFERENCES:
            one, other = (side.get(name, {"none"}) for side in environments)
            if one != other:
                found[name] = f"{name} {joined(one)} / {joined(other)}"
    return dict(sorted(found.items()))


def _environment_of(records: Records) -> dict[str, set[str]]:
    environment: dict[str, set[str]] = {}
    for record in records:
        target = {"dtype": record.point.dtype, "device": record.point.device}
        for name, value in (record.environment | target).items():
            environment.setdefault(name, set()).add(str(value))
    return environment


def joined(values: set[str]) -> str:
    """Return the values in order, with "and" between."""
    return " and ".join(sorted(values))


def environment_warnings(
    pairs: Sequence[tuple[Records, Records]], allow_different_environment: bool
) -> list[str]:
    """Warn of differences between the environments. Raises ResultsError for large ones, unless
    allowed."""
    differences = environment_differences(pairs)
    minor = [text for name, text in differences.items() if name in MINOR_DIFFERENCES]
    refused = [text for name, text in differences.items() if name not in MINOR_DIFFERENCES]
    if refused and not allow_different_environment:
        raise ResultsError(
            f"the environments differ: {'; '.join(refused)} (base / head); such times say nothing "
            "about the code. --allow-different-environment compares them all the same"
        )
    warnings = [f"DIFFERENT ENVIRONMENTS (base / head): {'; '.join(refused)}"] if refused else []
    return warnings + [f"not the same on both sides (base / head): {text}" for text in minor]


def execution_changes(base: Records, head: Records) -> list[str]:
    """List head's differences in execution, of ok records: mode, kernels and captured graphs."""
    modes = [joined({record.mode for record in records}) for records in (base, head)]
    found = [] if modes[0] == modes[1] else [f"mode {modes[1]}, was {modes[0]}"]
    one, other = base[-1].kernels, head[-1].kernels
    for operation in sorted(one.keys() & other.keys()):
        if one[operation] != other[operation]:
            found.append(f"{operation} by {other[operation]}, was {one[operation]}")
    one, other = base[-1].graphs, head[-1].graphs
    for role in sorted(one.keys() & other.keys()):
        if one[role] != other[role]:
            found.append(f"graph of {role}: {other[role]}, was: {one[role]}")
    return found
