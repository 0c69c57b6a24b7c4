"""The state of a run, one room per part of it. `Run.tell` is the only way in; everything here is pure.

run         what is known and decided: an event in, actions out
measuring   slots and their reports: the baseline, feedback, fresh runs, measurements of candidates
proposals   from asking for a change to having one
candidates  from a change to a verdict
gates       what decides beside the metric: staging (checks, and in which order), bounds, standin, holdout
takeover    the baseline as check has measured it
finale      baseline and best, measured again at the end
ending      how trials end: landing, rows, and what waited for them
resuming    going on in a new process
life        one trial while it lives
the rest    what the run keeps: archive, asking, baseline, clock, slots, stopping
"""

from autoresearch.state.run import Run, fold

__all__ = ["Run", "fold"]
