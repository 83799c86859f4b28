"""The routes of the read API, one module for each kind of question. Every route is a GET and changes nothing."""
