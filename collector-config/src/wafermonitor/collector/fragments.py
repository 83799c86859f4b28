"""Which YAML files a Collector is started with, in order.

In: names of backends and receivers, or paths of YAML files that somebody else wrote. Out: paths.
Called by: `command`, `supervise`.

The Collector merges the files itself (`--config` more than once): maps merge, lists are replaced. So each file brings
pipelines of its own and touches no list of another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from wafermonitor.collector.config import Config
from wafermonitor.collector.errors import ConfigRejected

Kind = Literal["backends", "receivers"]
HERE: Final = Path(__file__).parent
BASE: Final = HERE / "base.yaml"
TOKEN: Final = HERE / "token.yaml"
TOKENS: Final = {"managed": TOKEN, "managed-http": HERE / "token-http.yaml"}
"""The file that adds WAFER_TOKEN to a backend."""
MANIFESTS: Final = {"minimal": HERE / "builder-minimal.yaml", "full": HERE / "builder-full.yaml"}


def names(kind: Kind) -> list[str]:
    """The files that come with this package, without `.yaml`."""
    return sorted(path.stem for path in (HERE / kind).glob("*.yaml"))


def choose(config: Config) -> list[Path]:
    """base.yaml, then what `config` asks for. ConfigRejected names what is unknown and what there is."""
    chosen = [
        BASE,
        *(_path("backends", name) for name in config.backends),
        *(_path("receivers", name) for name in config.receivers),
    ]
    if config.token:
        chosen += [token for name, token in TOKENS.items() if HERE / "backends" / f"{name}.yaml" in chosen]
    return list(dict.fromkeys(chosen))


def arguments(files: list[Path]) -> list[str]:
    """The Collector's flags for `files`."""
    return [word for path in files for word in ("--config", str(path))]


def _path(kind: Kind, name: str) -> Path:
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name).absolute()
        if not path.is_file():
            raise ConfigRejected(f"collector.{kind} = {name!r}: no such file")
        return path
    if name not in names(kind):
        raise ConfigRejected(f"collector.{kind} = {name!r}: known: {', '.join(names(kind))}, or the path of a YAML file")
    return HERE / kind / f"{name}.yaml"
