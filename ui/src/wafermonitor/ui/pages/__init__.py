"""The pages: each loads what its address asks for and makes HTML of it."""

from wafermonitor.ui.pages.page import Page, Viewer, load

__all__ = ["Page", "Viewer", "load"]
