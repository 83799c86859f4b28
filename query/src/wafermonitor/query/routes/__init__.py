"""The routes of the read API, one module for each kind of question. What changes something is a POST (`changes`)."""
