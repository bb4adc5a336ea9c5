"""What is tried again, how often and after how long: by cause."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import get_args

import pytest
import ray.exceptions
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.experiment import load
from orchestrator.failures import diagnose
from orchestrator.job.errors import StepError
from orchestrator.job.retries import LONGEST_BACKOFF, STEADY, Cause, Losses, OutOfRetries, Retries, backoff, counted
from orchestrator.plan import plan
from orchestrator.progress import look
from orchestrator.store.leases import Lease
from orchestrator.store.step_folders import Store

CAUSES: tuple[Cause, ...] = get_args(Cause)


@given(
    st.builds(Retries, preempted=st.integers(0, 5), infrastructure=st.integers(0, 5)),
    st.lists(st.sampled_from(CAUSES), max_size=30),
)
def test_no_cause_eats_the_budget_of_another(allowed: Retries, causes: list[Cause]) -> None:
    losses = Losses(allowed)
    for at, cause in enumerate(causes):
        assert losses.count(cause) == (causes[: at + 1].count(cause) <= allowed.of(cause))
    assert losses.by_cause() == {cause: causes.count(cause) for cause in set(causes)}


def test_a_mistake_in_the_config_is_never_tried_again() -> None:
    assert not Losses(Retries(preempted=9, infrastructure=9, user_error=9, timeout=9)).count("configuration")


def test_pauses_begin_anew_after_ten_minutes_without_a_loss_and_budgets_do_not() -> None:
    now = 0.0
    losses = Losses(Retries(infrastructure=4), clock=lambda: now)
    pauses = []
    for passed in (1.0, 1.0, STEADY, STEADY + 1.0, 1.0):
        now += passed
        going_on = losses.count("infrastructure")
        pauses.append(losses.delay("infrastructure"))
    within = [(2.0**attempt / 2, 2.0**attempt) for attempt in (1, 2, 3, 1, 2)]
    assert all(least <= pause <= most for pause, (least, most) in zip(pauses, within, strict=True))
    assert not going_on


def test_pauses_begin_anew_after_progress_and_budgets_do_not() -> None:
    losses = Losses(Retries(infrastructure=4), clock=lambda: 0.0)
    pauses = []
    for progress in (False, False, False, True, False):
        if progress:
            losses.progressed()
        going_on = losses.count("infrastructure")
        pauses.append(losses.delay("infrastructure"))
    within = [(2.0**attempt / 2, 2.0**attempt) for attempt in (1, 2, 3, 1, 2)]
    assert all(least <= pause <= most for pause, (least, most) in zip(pauses, within, strict=True))
    assert not going_on


@pytest.mark.parametrize("wrong", [{"preempted": -1}, {"infrastructure": "3"}, {"spot": 3}, {"user_error": 1.5}])
def test_budgets_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Retries.model_validate(wrong)


@given(st.integers(1, 1000))
def test_waiting_doubles_up_to_a_minute_and_half_of_it_is_chance(attempt: int) -> None:
    whole = min(LONGEST_BACKOFF, 2.0**attempt)
    assert whole / 2 <= backoff(attempt) <= whole


@pytest.mark.parametrize(
    ("error", "cause", "final"),
    [
        (StepError("data: is empty"), "configuration", False),
        (ValueError("a bug"), "user error", False),
        (ray.exceptions.WorkerCrashedError(), "infrastructure", False),
        (ray.exceptions.RayActorError(), "infrastructure", False),
        (ray.exceptions.NodeDiedError("gone"), "preempted", False),
        (OSError(errno.ENOSPC, "No space left on device"), "infrastructure", False),
        (OSError(errno.EACCES, "Permission denied"), "user error", False),
        (OutOfRetries("preempted", "workers were lost 21 times"), "preempted", True),
    ],
)
def test_an_error_has_a_cause(error: Exception, cause: Cause, final: bool) -> None:
    for raised in (error, ray.exceptions.RayTaskError("run", "traceback", error)):
        failure = diagnose(raised)
        assert (failure.cause, failure.final) == (cause, final)
        assert "\n" not in failure.message


def test_what_ended_a_job_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(OutOfRetries("preempted", "replicas were lost 3 times")))
    assert (error.cause, str(error)) == ("preempted", "replicas were lost 3 times")


def test_losses_of_a_run_and_of_its_job_are_shown_together() -> None:
    assert counted({"infrastructure": 1}, {"preempted": 2, "infrastructure": 1}) == "infrastructure 2, preempted 2"
    assert counted({}, {}) == ""


def test_status_says_what_was_lost_and_why(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(f"name: words\nstore: {tmp_path}/runs\nsteps:\n  letters: {{job: letters, train: 8}}\n")
    experiment = load(file)
    store = Store(Path(experiment.store))
    [planned] = plan(experiment, store)
    planned.folder.create(planned.identity)
    planned.folder.acquire(Lease.by_this_process("run"))
    planned.folder.write_status(state="running", restarts={"infrastructure": 1}, reason="infrastructure: it crashed")
    view = look(planned)
    assert (view.losses, view.note) == ("infrastructure 1", "went on after infrastructure: it crashed")
    planned.context(experiment, store).lost({"preempted": 2, "infrastructure": 1}, "preempted: its machine is gone")
    view = look(planned)
    assert (view.losses, view.note) == ("infrastructure 2, preempted 2", "went on after preempted: its machine is gone")
    planned.folder.forget_losses()
    assert look(planned).losses == "infrastructure 1"
