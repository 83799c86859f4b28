"""Find a Collector that is new enough and has the parts that the chosen files use.

In: `Config`, the chosen YAML files. Out: a `Binary`, or BinaryRejected that says why each candidate does not fit and the fix.
Called by: `command`, `supervise`, tests.

Order: `WAFER_COLLECTOR_BIN` (alone, when set) · `otelcol-contrib`, `otelcol` on PATH · what `wafer collector install` built.
The parts are asked of the Collector itself: `validate` with the chosen files knows every one by name and by its settings.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from wafermonitor.collector import build, fragments
from wafermonitor.collector.config import Config
from wafermonitor.collector.errors import BinaryRejected, ConfigRejected

OLDEST: Final = (0, 159)
"""Before it, some parts have other names (`otlp_grpc`, `file_log`)."""
PROGRAMS: Final = ("otelcol-contrib", "otelcol")
DEADLINE_S: Final = 60.0

_VERSION = re.compile(r"version v?(\d+)\.(\d+)\.(\d+)")
_PART = re.compile(r"^    - name: (\S+)$")
_SECTION = re.compile(r"^(\w+):$")


class Binary(NamedTuple):
    """A Collector that fits. `source` is WAFER_COLLECTOR_BIN, PATH or cache."""

    path: Path
    version: str
    source: str


def find(config: Config, files: list[Path]) -> Binary:
    """The first Collector that is new enough and validates `files`.

    ConfigRejected: the files themselves are wrong. BinaryRejected: every candidate is too old or lacks a part.
    """
    reasons = []
    lacking = set()
    for path, source in candidates(config):
        try:
            version = version_of(path)
            if version is None or version[:2] < OLDEST:
                shown = "does not say its version" if version is None else "is " + ".".join(map(str, version))
                reasons.append(f"{path} {shown}; needed: {OLDEST[0]}.{OLDEST[1]} or newer")
                continue
            problem = validate(path, files, config)
        except OSError as error:
            reasons.append(f"{path} cannot be run: {error.strerror}")
            continue
        if problem is None:
            return Binary(path, ".".join(map(str, version)), source)
        if "unknown type" not in problem:
            raise ConfigRejected(problem)
        lacking.add(path)
        reasons.append(f"{path} lacks a part: {problem.splitlines()[-1].strip()}")
    raise BinaryRejected("\n".join([*reasons, advice(config, tried=bool(reasons), lacking=lacking)]))


def candidates(config: Config) -> Iterator[tuple[Path, str]]:
    """(path, source) of every Collector there is, best first. A named one stands alone."""
    if config.bin:
        named = shutil.which(config.bin) or config.bin
        yield Path(named), "WAFER_COLLECTOR_BIN"
        return
    for program in PROGRAMS:
        found = shutil.which(program)
        if found:
            yield Path(found), "PATH"
    for manifest in fragments.MANIFESTS.values():
        built = build.target(manifest)
        if built.is_file():
            yield built, "cache"


def advice(config: Config, *, tried: bool, lacking: Collection[Path] = ()) -> str:
    """What to do when no Collector fits. `lacking` are those that have not all parts: another build of them is no help."""
    if config.bin:
        return "set WAFER_COLLECTOR_BIN to a Collector that fits, or unset it"
    lack = "no Collector fits" if tried else "no Collector found"
    if build.target(fragments.MANIFESTS["full"]) in lacking:
        return f"{lack}, and no build of ours would: name an otelcol-contrib by WAFER_COLLECTOR_BIN, or take a bridge instead"
    if build.go() is None:
        return (
            f"{lack} and none can be built: install otelcol-contrib {OLDEST[0]}.{OLDEST[1]} or newer and name it by "
            f"WAFER_COLLECTOR_BIN, or install Go {build.OLDEST_GO} or newer and run `wafer collector install`"
        )
    full = " --full" if build.target(fragments.MANIFESTS["minimal"]) in lacking else ""
    return f"{lack}: run `wafer collector install{full}`; it builds one through Go, in about 4 minutes"


def version_of(path: Path) -> tuple[int, int, int] | None:
    """What `--version` says, or None. OSError when it cannot be run."""
    match = _VERSION.search(_run([str(path), "--version"]).stdout)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def validate(path: Path, files: list[Path], config: Config) -> str | None:
    """What the Collector at `path` has against `files`; None when it would start with them."""
    done = _run([str(path), "validate", *fragments.arguments(files)], config)
    return None if done.returncode == 0 else _message(done)


def merged(path: Path, files: list[Path], config: Config, form: str = "yaml") -> str:
    """What the Collector makes of `files`, secrets hidden. `form` is yaml or json. ConfigRejected: they do not fit together."""
    done = _run([str(path), "print-config", f"--format={form}", *fragments.arguments(files)], config)
    if done.returncode != 0:
        raise ConfigRejected(_message(done))
    return done.stdout


def components(path: Path) -> dict[str, list[str]]:
    """Section (receivers, processors, exporters, connectors, extensions, providers) → the parts built in."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in _run([str(path), "components"]).stdout.splitlines():
        if match := _SECTION.match(line):
            section = match[1]
        elif match := _PART.match(line):
            found.setdefault(section, []).append(match[1])
    return found


def environment(config: Config) -> dict[str, str]:
    """The environment in which the Collector reads its files."""
    return os.environ | config.substitutions()


def _message(done: subprocess.CompletedProcess[str]) -> str:
    text = (done.stderr.strip() or done.stdout.strip()).removeprefix("Error: ")
    return "\n".join(line for line in text.splitlines() if line.strip()) or f"it ended with code {done.returncode}"


def _run(command: list[str], config: Config | None = None) -> subprocess.CompletedProcess[str]:
    environ = None if config is None else environment(config)
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S, env=environ)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} did not answer within {DEADLINE_S:.0f} s")
