"""The command `wafer`: one group of commands that every component adds to, each loaded only when it is called.

In: arguments. Out: an exit code; errors as one line on stderr. Called by: the script `wafer`, `python -m`.

Commands are entry points of the group `wafermonitor.commands`. The list of commands shows the first sentence of each one's
docstring, read from its source without running it, because a component may need an extra that is not installed.

Exit codes: 0 · 1 it did not work · 2 wrong use or settings · 75 try again later · 130 interrupted; `wafer run` has the
command's. A command may return its exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    import ast
    from importlib.metadata import EntryPoint

GROUP: Final = "wafermonitor.commands"
DISTRIBUTION: Final = "wafermonitor"
EXTRAS: Final = {
    "storage": "timescale",
    "deploy": "all",
    "s3": "archive,aws",
    "sqs": "aws",
    "cloudwatch": "aws",
    "xray": "aws",
}
"""Components whose extra has another name than they have."""

_FAILED, _WRONG_USE, _LATER, _INTERRUPTED, _PIPE_CLOSED = 1, 2, 75, 130, 141
_OWN: Final = f"{__package__ or 'wafermonitor.instrumentation'}.command"


class Wafer(click.Group):
    """The group; `called` is the command that was asked for, for the words of an error."""

    called = ""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Every command of every component that is installed."""
        return sorted(entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Load one command. Our own need no search through what is installed: `wafer run` must start fast."""
        self.called = cmd_name
        own = getattr(import_module(_OWN), cmd_name.replace("-", "_"), None)
        if isinstance(own, click.Command):
            return own
        entry = entries().get(cmd_name)
        loaded = None if entry is None else entry.load()
        return loaded if isinstance(loaded, click.Command) else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and an unknown command names those that look like it."""
        name = args[0] if args else ""
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, self.list_commands(ctx))
            hint = f" Did you mean: {', '.join(near)}?" if near else " `wafer --help` lists all."
            ctx.fail(f"there is no command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The list of commands, without loading one."""
        from textwrap import shorten

        limit = formatter.width - 6 - max(map(len, entries()), default=0)
        rows = [(name, shorten(summary(entry.value), limit, placeholder=" …")) for name, entry in sorted(entries().items())]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


@cache
def entries() -> dict[str, EntryPoint]:
    """Every command's entry point by name."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def summary(value: str) -> str:
    """The first sentence that documents `package.module:function`, from its source; empty when it cannot be read."""
    import ast

    module, _, name = value.partition(":")
    for node in _functions(module):
        if node.name == name:
            first = (ast.get_docstring(node) or "").partition("\n\n")[0]
            return " ".join(first.split()).partition(". ")[0].rstrip(".")
    return ""


@cache
def _functions(module: str) -> list[ast.FunctionDef]:
    """The functions of a module that is not imported for it."""
    import ast
    from importlib.util import find_spec

    top, *rest = module.split(".")
    spec = find_spec(top)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, *rest).with_suffix(".py")
        if path.is_file():
            return [node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)]
    return []


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"wafer {version(DISTRIBUTION)}")
        ctx.exit()


@click.group(cls=Wafer, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def wafer() -> None:
    """Watch the batch jobs of a semiconductor fab while they run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    try:
        result = wafer.main(None if arguments is None else list(arguments), prog_name="wafer", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # or Python would complain about the closed pipe once more
        return _PIPE_CLOSED
    except ModuleNotFoundError as error:
        return _complain(_missing(error), _FAILED)
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        return _complain(str(error), code)
    return result if isinstance(result, int) else 0


def _missing(error: ModuleNotFoundError) -> str:
    """Which extra brings the module that is not there."""
    name = error.name or ""
    component = _component_of(error)
    if name.partition(".")[0] == DISTRIBUTION:
        return f"wafer {wafer.called}: this installation has no {name}; install WaferMonitor anew"
    extra = EXTRAS.get(component, component)
    return f'wafer {wafer.called} needs the extra "{extra}": pip install "{DISTRIBUTION}[{extra}]"  (no module {name})'


def _component_of(error: ModuleNotFoundError) -> str:
    """The component whose code wanted the module: the innermost of ours, but not this one."""
    found = ""
    traceback = error.__traceback__
    while traceback is not None:
        parts = str(traceback.tb_frame.f_globals.get("__name__", "")).split(".")
        if parts[0] == DISTRIBUTION and len(parts) > 1 and parts[1] != "instrumentation":
            found = parts[1]
        traceback = traceback.tb_next
    entry = None if found else entries().get(wafer.called)
    return entry.value.split(".")[1] if entry else found


def _code_of(error: Exception) -> int | None:
    """The exit code of an error that a component foresaw; None for a defect, whose traceback is wanted.

    Components name their errors alike and share no class, because none imports those above it.
    """
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == DISTRIBUTION]
    if not kinds:
        return None
    if any(kind.endswith("Unavailable") for kind in kinds):
        return _LATER
    return _WRONG_USE if any(kind.endswith("Rejected") for kind in kinds) else _FAILED


def _complain(message: str, code: int) -> int:
    click.echo(f"Error: {message}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
