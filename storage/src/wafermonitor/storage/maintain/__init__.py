"""What the store needs done again and again: which steps, when, and what came of it. Importing this loads no driver."""

from wafermonitor.storage.maintain.config import Config

__all__ = ["Config"]
