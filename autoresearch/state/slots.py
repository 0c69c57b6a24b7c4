"""The slots as the run sees them: what each does, for how long, and whether its machine can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from autoresearch.events import SlotReady
from autoresearch.schedule import Work
from autoresearch.snapshot import SlotView
from autoresearch.trial import Measurement, Purpose

FAILURES_BEFORE_RETIRED = 2


@dataclass(frozen=True, slots=True)
class SlotState:
    """One slot."""

    number: int
    device: str
    ready_at: float
    work: Work | None = None
    since: float = 0.0
    half: Measurement | None = None
    """What the first measurement of a pair gave, while the second runs."""
    busy_seconds: float = 0.0
    failures: int = 0
    """Failures of the machine in a row."""
    retired: str = ""
    baseline_measured: bool = False
    suspect: Work | None = None
    """What failed here and elsewhere; held until the incumbent has shown whose fault that is."""
    shares_cpus: bool = True
    """Whether what other slots measure slows timings in it."""
    cpus: int = 1
    """How many logical CPUs it may use, shared or not."""

    @property
    def on_trial(self) -> bool:
        """Its machine failed: it measures the incumbent before anything else."""
        return self.failures > 0

    @property
    def free(self) -> bool:
        """It waits for work."""
        return self.work is None and not self.retired


@dataclass(slots=True)
class Slots:
    """All slots of this process, by number."""

    states: dict[int, SlotState] = field(default_factory=dict)
    most: int | None = None
    why_bound: str = ""
    complete: bool = False
    """No further slot will appear."""
    why_lost: str = ""
    """How the last machine failed."""

    def add(self, ready: SlotReady, at: float) -> None:
        """A slot can measure from now on."""
        self.states[ready.slot] = SlotState(
            ready.slot,
            ready.device,
            at,
            since=at,
            retired=self._retired(ready.slot),
            shares_cpus=ready.shares_cpus,
            cpus=ready.cpus,
        )

    def start(self, number: int, work: Work, at: float) -> None:
        """A slot begins a measurement."""
        self.states[number] = replace(self.states[number], work=work, since=at)

    def finish(self, number: int, at: float) -> Work | None:
        """The measurement there ended; return what it was."""
        state = self.states[number]
        baseline = state.baseline_measured or _of_baseline(state.work)
        busy = state.busy_seconds + (at - state.since)
        self.states[number] = replace(
            state, work=None, since=at, busy_seconds=busy, failures=0, baseline_measured=baseline, half=None
        )
        return state.work

    def hold(self, number: int, measurement: Measurement) -> None:
        """The first half of a pair ended there."""
        self.states[number] = replace(self.states[number], half=measurement)

    def fail(self, number: int, why: str, at: float) -> list[Work]:
        """The machine failed; return what has to be measured again. A slot that fails twice in a row is retired.

        What failed twice is held as the slot's suspect while the slot proves itself.
        """
        state, work = self.states[number], self.states[number].work
        failures = state.failures + 1
        if failures >= FAILURES_BEFORE_RETIRED:
            self.states[number] = replace(
                state, work=None, since=at, failures=failures, retired=why, suspect=None, half=None
            )
            return [each for each in (work, state.suspect) if each]
        work = replace(work, losses=work.losses + 1) if work else None
        suspect = work if work and work.losses >= FAILURES_BEFORE_RETIRED else None
        self.states[number] = replace(state, work=None, since=at, failures=failures, suspect=suspect, half=None)
        return [work] if work and not suspect else []

    def acquit(self, number: int) -> Work | None:
        """The slot has measured the incumbent since its machine failed; return what then was the candidate's fault."""
        state = self.states[number]
        self.states[number] = replace(state, suspect=None)
        return state.suspect

    def bound(self, most: int, why: str) -> None:
        """Use no slot whose number is `most` or above; what runs there ends first."""
        self.most, self.why_bound = most, why
        for number, state in self.states.items():
            self.states[number] = replace(state, retired=self._retired(number))

    def _retired(self, number: int) -> str:
        if self.most is not None and number >= self.most:
            return self.why_bound
        return self.states[number].retired if number in self.states else ""

    def forget_baseline(self) -> None:
        """The measure command changed: every slot measures the baseline again."""
        self.states = {number: replace(state, baseline_measured=False) for number, state in self.states.items()}

    @property
    def free(self) -> list[SlotState]:
        """Slots that wait for work."""
        return [state for state in self.states.values() if state.free]

    @property
    def busy(self) -> list[SlotState]:
        """Slots that measure."""
        return [state for state in self.states.values() if state.work is not None]

    @property
    def in_order(self) -> list[SlotState]:
        """By number, whenever they came."""
        return [state for _, state in sorted(self.states.items())]

    @property
    def usable(self) -> int:
        """How many slots are not retired."""
        return sum(not state.retired for state in self.states.values())

    @property
    def lost(self) -> bool:
        """No slot can be used, and none is still being made."""
        return self.complete and not self.usable

    def view(self, state: SlotState, hypothesis: str) -> SlotView:
        """A picture of a slot."""
        work = state.work
        return SlotView(
            number=state.number,
            device=state.device,
            trial=work.trial if work else None,
            purpose=work.purpose if work else None,
            hypothesis=hypothesis,
            since=state.since,
            busy_seconds=state.busy_seconds,
            ready_at=state.ready_at,
            retired=state.retired,
        )


def _of_baseline(work: Work | None) -> bool:
    """It measured the unchanged code; a canary, which has no trial of its own, and other commands did not."""
    others = (Purpose.CANARY, Purpose.STANDIN, Purpose.HOLDOUT)
    return work is not None and work.trial == 0 and work.purpose not in others
