"""What a check found, and how checks are run: each on its own, none skipped in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

from minigrad.backend import (
    get_backend,
    get_default_dtype,
    random_state,
    set_backend,
    set_default_dtype,
    set_random_state,
)
from minigrad.backend import seed as seed_generator

__all__ = ["Check", "CheckError", "CheckResult", "Measured", "NotApplicableError", "run_checks", "summary"]

PASSED, FAILED, EXPECTED, NOT_RUN = "passed", "failed", "expected failure", "not run"


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: of the check, such as "gradients" or "backend[strict]".
        status: "passed", "failed", "expected failure" (it failed, and that was said before), or "not run".
        reason: what went wrong; why it was expected; why the check does not apply.
        error: the largest error that was measured, if the check measures one, and `tolerance`, what it may be.
    """

    name: str
    status: str
    reason: str = ""
    error: float | None = None
    tolerance: float | None = None


class CheckError(AssertionError):
    """A check has failed; says how."""


class NotApplicableError(Exception):
    """A check does not apply; says why."""


@dataclass(frozen=True)
class Measured:
    """The largest error that a check has met, and what is allowed. A check that returns more than that has failed."""

    error: float
    tolerance: float
    where: str = ""


Check = Callable[[Any], "Measured | None"]
"""A check takes the subject (what is to be checked and how to make its input). It raises if something is wrong."""


def run_checks(
    checks: Mapping[str, Check],
    subject: Any,
    expected_failures: Mapping[str, str] | None = None,
    only: str | Collection[str] | None = None,
) -> list[CheckResult]:
    """Run checks one by one, each with the same random numbers, on the default backend and dtype.

    Args:
        checks: by name.
        subject: what each check is given.
        expected_failures: names of checks with the reasons why they fail. One of them that passes has failed.
        only: run these alone.

    Raises:
        ValueError: there is no check of a name in `expected_failures` or `only`.
    """
    expected = dict(expected_failures or {})
    chosen = list(checks) if only is None else [only] if isinstance(only, str) else list(only)
    for argument, names in (("expected_failures", expected), ("only", chosen)):
        if unknown := [name for name in names if name not in checks]:
            raise ValueError(f"{argument} names {', '.join(unknown)}; the checks are: {', '.join(checks)}")
    return [_judged(_run(name, checks[name], subject), expected.get(name)) for name in checks if name in chosen]


def _run(name: str, check: Check, subject: Any) -> CheckResult:
    backend, dtype, drawn = get_backend(), get_default_dtype(), random_state()
    seed_generator(1234)
    try:
        measured = check(subject)
    except NotApplicableError as why:
        return CheckResult(name, NOT_RUN, str(why))
    except CheckError as error:
        return CheckResult(name, FAILED, f"{error}{_asked(check)}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a stranger's code raises, SystemExit too
        return CheckResult(name, FAILED, f"{type(error).__name__}: {error}{_asked(check)}")
    finally:
        set_backend(backend)
        set_default_dtype(dtype)
        set_random_state(drawn)
    if measured is None:
        return CheckResult(name, PASSED)
    if measured.error <= measured.tolerance:  # and so not if the error is NaN
        return CheckResult(name, PASSED, "", measured.error, measured.tolerance)
    reason = f"{measured.where or 'the largest error'}: {measured.error:.2g}, allowed is {measured.tolerance:.2g}"
    reason += _asked(check)
    return CheckResult(name, FAILED, reason, measured.error, measured.tolerance)


def _asked(check: Check) -> str:
    """What the check asks, in parentheses, if it says so."""
    text = (check.__doc__ or "").strip().partition("\n\n")[0]
    return f" ({' '.join(text.split())})" if text else ""


def no_factory(factory: Any, kind: str, example: str) -> TypeError:
    """The error for something else in the place of a factory."""
    return TypeError(f"{kind} takes what makes one, such as {example}, not {short(factory)}")


def _judged(found: CheckResult, expected: str | None) -> CheckResult:
    """A result as it stands when the check was expected to fail, for a reason."""
    if expected is None or found.status == NOT_RUN:
        return found
    if found.status == FAILED:
        reason = f"{expected} ({found.reason})"
        return CheckResult(found.name, EXPECTED, reason, found.error, found.tolerance)
    reason = f"it was expected to fail ({expected}), and is {found.status}: take it out of expected_failures"
    return CheckResult(found.name, FAILED, reason, found.error, found.tolerance)


def summary(results: Iterable[CheckResult]) -> str:
    """How many checks there are of each status, in one line.

    >>> from minigrad.testing import CheckResult, summary
    >>> summary([CheckResult("gradients", "passed"), CheckResult("padding", "not run", "it has no time")])
    '1 run: 1 passed, 0 failed, 0 expected failures; 1 not run'
    """
    counts = Counter(result.status for result in results)
    run = counts.total() - counts[NOT_RUN]
    return (
        f"{run} run: {counts[PASSED]} passed, {counts[FAILED]} failed, {counts[EXPECTED]} expected failures; "
        f"{counts[NOT_RUN]} not run"
    )


def worst(*measured: Measured) -> Measured:
    """The one that is closest to, or furthest beyond, what is allowed."""
    return max(measured, key=lambda m: m.error / m.tolerance if m.error == m.error else float("inf"))
