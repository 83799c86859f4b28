"""The SQL of this engine, read from its files once.

In: a name. Out: the text of `sql/queries/<name>.sql`. Called by: `writer`, `dictionary`, `reader`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_INCLUDE = re.compile(r"^\s*-- include (\w+)$", re.MULTILINE)


@cache
def statement(name: str) -> str:
    """The query's text. A line `-- include other` is replaced by that file, so that a long list of columns exists once."""
    text = files(__package__).joinpath("sql", "queries", f"{name}.sql").read_text("utf-8")
    return _INCLUDE.sub(lambda match: statement(match[1]), text)
