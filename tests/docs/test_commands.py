"""Every `wafer` command line on a page is one that the real command takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points

import click
import pytest

from tests.docs.pages import ROOT, SHELL, Code, blocks, pages, spans
from wafermonitor.instrumentation.cli import entries, wafer

WORD = re.compile(r"(?<![\w./:@-])wafer(?= +[\w-])")
SUBSTITUTION = re.compile(r'"?\$\(([^()]*)\)"?')
COMMAND_POSITION = re.compile(r"(^|[;&|(']|\b(do|then|else|eval|exec)|--|\$|\b[A-Za-z_]\w*=\S*)\s*$")
PIECE = re.compile(r"""\s*(?:(?P<word>(?:[^\s;&|()<>'"\\#`]|\\.|'[^']*'|"[^"]*"|(?<=\S)\#)+)|(?P<end>.))""")
PLACEHOLDERS = {"…", "..."}
FOLDERS = {
    "instrumentation": "python-instrumentation",
    "collector": "collector-config",
    **{name: name for name in ("receiver", "storage", "alerting", "query", "ui", "deploy")},
}
COMPONENTS = {entry.name: entry.value.split(".")[1] for entry in entry_points(group="wafermonitor.commands")}


def command_lines(code: Code) -> Iterator[list[str]]:
    """The arguments after each word `wafer` that stands where a shell would look for a command."""
    text = SUBSTITUTION.sub(r" ; \1 ; ", code.text.replace("\\\n", " "))
    for found in WORD.finditer(text):
        before = text[: found.start()].rpartition("\n")[2]
        if COMMAND_POSITION.search(before) and "#" not in before:
            yield arguments(text[found.end() :].partition("\n")[0])


def arguments(line: str) -> list[str]:
    """The words of one simple command: up to an operator, a comment, or the end of a quote that was opened before `wafer`."""
    words = []
    for found in PIECE.finditer(line):
        if not found["word"]:
            break
        words.append("".join(shlex.split(re.sub(r"\$[\w?]+", "0", found["word"]))))
    return [word for word in words if word not in PLACEHOLDERS]


def parse(words: list[str], *, whole: bool) -> None:
    """Let click read the words, run nothing. `whole`: everything that is required must be there, and values must be right."""
    command: click.Command = wafer
    context = click.Context(wafer, info_name="wafer")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    if not whole or isinstance(command, click.Group):
        parser = command.make_parser(context)
        parser.ignore_unknown_options = False
        parser.parse_args([word for word in words if whole or word.startswith("--")])
        return
    try:
        command.make_context(context.info_name, words, parent=context.parent)
    except click.exceptions.Exit:
        pass  # --help
    except click.BadParameter as error:
        if not isinstance(getattr(error.param, "type", None), click.Path):
            raise  # a file named as an example need not exist here


SHELL_BLOCKS = [code for page in pages() for code in blocks(page) if code.language in SHELL and WORD.search(code.text)]


@pytest.mark.parametrize("code", SHELL_BLOCKS, ids=str)
def test_command_lines_in_blocks_are_complete_and_right(code):
    for words in command_lines(code):
        try:
            parse(list(words), whole=True)
        except click.UsageError as error:
            pytest.fail(f"{code}: wafer {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_named_in_prose_exist(page):
    for code in spans(page):
        for words in command_lines(code):
            if not words[0][0].isalpha():
                continue  # `wafer 3 of 25` is a message
            try:
                parse(list(words), whole=False)
            except click.BadOptionUsage:
                pass  # an option named without its value
            except click.UsageError as error:
                pytest.fail(f"{code}: `wafer {shlex.join(words)}`: {error.format_message()}")


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_each_command_stands_in_the_readme_of_its_component(name):
    readme = (ROOT / FOLDERS[COMPONENTS[name]] / "README.md").read_text()
    command = entries()[name].load()
    assert re.search(rf"(wafer |`){name}\b", readme), f"`wafer {name}` is not explained"
    if isinstance(command, click.Group):
        missing = [sub for sub in command.commands if not re.search(rf"(wafer {name} |`|\| ){sub}\b", readme)]
        assert not missing, f"wafer {name}: {missing} are not explained"


@pytest.mark.parametrize(
    "line",
    [
        "wafer fly",
        "wafer run --no-such -- true",
        "wafer run --attempt second -- true",
        "wafer storage grow",
        "wafer start",
        "x=1 wafer up --json 3",
    ],
)
def test_a_wrong_line_would_be_noticed(line):
    (words,) = command_lines(Code(ROOT / "README.md", 1, "sh", line))
    with pytest.raises(click.UsageError):
        parse(words, whole=True)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('eval "$(wafer start yield --lot L1)"', [["start", "yield", "--lot", "L1"]]),
        (
            "wafer progress 3/25 'a b'   # says it\nwafer end --exit-code $?",
            [["progress", "3/25", "a b"], ["end", "--exit-code", "0"]],
        ),
        (
            "WAFER_MODE=file wafer run -- ls && wafer replay out \\\n  --watch",
            [["run", "--", "ls"], ["replay", "out", "--watch"]],
        ),
        ("wafer run -- sh -c 'wafer progress 1/2'", [["run", "--", "sh", "-c", "wafer progress 1/2"], ["progress", "1/2"]]),
        ("for wafer in 1 2; do echo $wafer; done; cat /var/lib/wafer run  # wafer up", []),
    ],
)
def test_command_lines_are_found_as_a_shell_would(text, lines):
    assert list(command_lines(Code(ROOT / "README.md", 1, "sh", text))) == lines
