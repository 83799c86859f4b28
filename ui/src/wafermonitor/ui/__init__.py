"""Screens: what runs now, what ran, and one run in full. Importing this loads no Panel, HoloViews or Bokeh."""

from wafermonitor.ui.config import Config
from wafermonitor.ui.errors import UiError, UiRejected, UiUnavailable

__all__ = ["Config", "UiError", "UiRejected", "UiUnavailable"]
