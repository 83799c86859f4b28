"""The SQL of this engine, read from its files once.

In: a name. Out: the text of `sql/queries/<name>.sql`. Called by: every module that asks something.
"""

from __future__ import annotations

import re
from collections.abc import Container
from functools import cache
from importlib.resources import files

_PART = re.compile(r"^ *-- if (\w+)\n(.*?)^ *-- end\n", re.MULTILINE | re.DOTALL)
_INCLUDE = re.compile(r"^\s*-- include (\w+)$", re.MULTILINE)


@cache
def statement(name: str) -> str:
    """The query's text. A line `-- include other` is replaced by that file, so that a long list of columns exists once."""
    text = files(__package__).joinpath("sql", "queries", f"{name}.sql").read_text("utf-8")
    return _INCLUDE.sub(lambda match: statement(match[1]).rstrip(), text)


def with_parts(text: str, asked: Container[str]) -> str:
    """The text without the parts (`-- if NAME` … `-- end`) that are not asked for: each costs time to plan, used or not."""
    return _PART.sub(lambda match: match[2] if match[1] in asked else "", text)
