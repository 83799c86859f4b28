"""`wafer start`, `wafer progress`, `wafer end`: a run that a shell script begins in one process and ends in another.

In: the run's names, or `WAFER_RUN` as `wafer start` exported it, or the state file it left. Out: events and the final
span; shell text for `eval`. Called by: `command`.

The ids are derived, so that even without variable and file the four values (site, job, run id, attempt) find the run again;
then only the start time is unknown and the end event alone ends it. No heartbeat is announced: between two commands nobody
can beat.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wafermonitor.instrumentation.announce import FAILED, Announced, Ending, Progress, instance_id_of, resource_of
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.derived import Ids, child_flags, derive, parent_of, random_ids, traceparent
from wafermonitor.instrumentation.folders import state_home
from wafermonitor.instrumentation.outbox import Outbox
from wafermonitor.instrumentation.output import PROGRESS_VARIABLE, is_pipe
from wafermonitor.instrumentation.spool import Request, Signal, Spool
from wafermonitor.instrumentation.target import target_of
from wafermonitor.semconv import attributes as names

RUN_VARIABLE: Final = "WAFER_RUN"
_FORGET_AFTER_S: Final = 30 * 86_400


@dataclass(kw_only=True)
class Remembered:
    """A run between two commands: what `WAFER_RUN` and the state file hold (the file also the last progress)."""

    job: str
    run_id: str
    trace_id: str
    span_id: str
    parent_span_id: str = ""
    trace_state: str = ""
    start_ns: int | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    progress: list[Any] | None = None

    @classmethod
    def read(cls, text: str) -> Remembered | None:
        """None for anything that we did not write."""
        with contextlib.suppress(ValueError, TypeError):
            run = cls(**json.loads(text))
            if len(bytes.fromhex(run.trace_id)) == 16 and len(bytes.fromhex(run.span_id)) == 8:  # noqa: PLR2004 - W3C's lengths
                return run
        return None

    def text(self) -> str:
        """As JSON, on one line."""
        return json.dumps(
            {key: value for key, value in vars(self).items() if value not in (None, "", {})}, separators=(",", ":")
        )

    @property
    def file(self) -> Path:
        """Where this user's processes on this host find it."""
        return state_home() / "runs" / f"{self.span_id}.json"

    @property
    def latest(self) -> Progress | None:
        """The last progress told."""
        return Progress(*self.progress) if self.progress else None


def begin(job: str, run_id: str | None, attempt: int | None, attributes: Mapping[str, Any]) -> Remembered:
    """Announce a run and remember it."""
    config = Config.load(strict=False)
    parent = parent_of(os.environ)
    run_id = run_id or random_ids(None).span_id.hex()
    ids = derive(config.site_id, job, run_id, attempt or 1)
    run = Remembered(
        job=job,
        run_id=run_id,
        trace_id=(parent.trace_id if parent else ids.trace_id).hex(),
        span_id=ids.span_id.hex(),
        parent_span_id=parent.span_id.hex() if parent else "",
        trace_state=parent.trace_state if parent else "",
        start_ns=time.time_ns(),
        attributes=dict(attributes),
    )
    _keep(run)
    _send(config, [("logs", _announced(config, run).start(None))])
    return run


def exports(run: Remembered) -> dict[str, str | None]:
    """What makes the run the parent of all that the script starts, and known to `wafer end`; None: unset it."""
    parent = parent_of(os.environ)
    flags = child_flags(parent, keep=Config.load(strict=False).parent_flag == "keep")
    ids = Ids(bytes.fromhex(run.trace_id), bytes.fromhex(run.span_id))
    changes: dict[str, str | None] = {"TRACEPARENT": traceparent(ids, flags), RUN_VARIABLE: run.text()}
    gone = (PROGRESS_VARIABLE, *(() if parent else ("TRACESTATE",)))
    return changes | {name: None for name in gone if name in os.environ}


def shell_text(changes: Mapping[str, str | None]) -> str:
    """For `eval` in any POSIX shell."""
    return "\n".join(
        f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}" for name, value in changes.items()
    )


def find(job: str | None, run_id: str | None, attempt: int | None) -> Remembered | None:
    """The run meant: by name and run id if given, else the one that `WAFER_RUN` holds."""
    told = Remembered.read(os.environ.get(RUN_VARIABLE, ""))
    if job is None or run_id is None:
        return None if told is None else _recalled(told)
    ids = derive(Config.load(strict=False).site_id, job, run_id, attempt or 1)
    if told is not None and told.span_id == ids.span_id.hex():
        return _recalled(told)
    # The trace is the parent's where there was one; `wafer start` left the run itself in TRACEPARENT.
    parent = parent_of(os.environ)
    derived = Remembered(
        job=job, run_id=run_id, trace_id=(parent.trace_id if parent else ids.trace_id).hex(), span_id=ids.span_id.hex()
    )
    return _recalled(derived)


def tell_wrapper(line: str) -> bool:
    """Hand progress to the `wafer run` around us; False when there is none."""
    try:
        descriptor = int(os.environ.get(PROGRESS_VARIABLE, ""))
        if not is_pipe(descriptor):
            return False
        os.write(descriptor, f"{line}\n".encode("utf-8", "replace"))
    except (ValueError, OSError):
        return False
    return True


def tell(run: Remembered, progress: Progress) -> None:
    """Send progress, and keep it for the final span."""
    config = Config.load(strict=False)
    run.progress = list(progress)
    _keep(run)
    _send(config, [("logs", _announced(config, run).progress(time.time_ns(), progress))])


def ending(*, result: str | None, exit_code: int | None, error_type: str | None, message: str) -> Ending:
    """How a script says that its run ended."""
    failed = bool(exit_code)
    result = result or (names.WAFER_JOB_RESULT_FAILURE if failed else names.WAFER_JOB_RESULT_SUCCESS)
    if result in FAILED:
        error_type = error_type or (f"exit.{exit_code}" if failed else result)
        message = message or (f"exit code {exit_code}" if failed else result)
    return Ending(result=result, end_ns=time.time_ns(), error_type=error_type or "", message=message, exit_code=exit_code)


def finish(run: Remembered, ending: Ending) -> None:
    """Send the end event, and the final span when the start is known; forget the run."""
    config = Config.load(strict=False)
    announced = _announced(config, run)
    requests: list[tuple[Signal, Request]] = [("logs", announced.end(ending, run.latest))]
    if run.start_ns is not None:
        requests.append(("traces", announced.span(ending, run.latest)))
    _send(config, requests)
    with contextlib.suppress(OSError):
        run.file.unlink()


def _recalled(run: Remembered) -> Remembered:
    """The same run with what the state file knows; as it is when the file is gone."""
    with contextlib.suppress(OSError):
        return Remembered.read(run.file.read_text("utf-8")) or run
    return run


def _keep(run: Remembered) -> None:
    """Write the state file whole or not at all; sweep those whose end never came."""
    with contextlib.suppress(OSError):
        folder = run.file.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = folder / f".{run.span_id}.{os.getpid()}"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(run.text())
        part.replace(run.file)
        for other in folder.iterdir():
            if time.time() - other.stat().st_mtime > _FORGET_AFTER_S:
                other.unlink()


def _announced(config: Config, run: Remembered) -> Announced:
    # Three processes tell of this run; none of them is the run's. They share an instance id and name no process.
    instance = instance_id_of(hashlib.sha256(f"{run.trace_id}-{run.span_id}".encode()).digest())
    return Announced(
        ids=Ids(bytes.fromhex(run.trace_id), bytes.fromhex(run.span_id)),
        parent_span_id=bytes.fromhex(run.parent_span_id) if run.parent_span_id else None,
        job=run.job,
        run_id=run.run_id,
        start_ns=run.start_ns,
        resource=resource_of(config, os.environ, service=run.job, instance_id=instance, pid=None),
        attributes=run.attributes,
        trace_state=run.trace_state,
    )


def _send(config: Config, requests: list[tuple[Signal, Request]]) -> None:
    if config.mode == "off":
        return
    endpoint = None if config.mode == "file" else target_of(config)
    Outbox(endpoint, Spool(config.spool_dir), budget_s=config.blocking_s).flush(requests)
