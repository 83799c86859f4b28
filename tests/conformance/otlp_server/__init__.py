"""Does a server speak OTLP? A pytest plug-in that judges any endpoint by its answers; see README.md."""
