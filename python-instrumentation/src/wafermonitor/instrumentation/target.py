"""Where the settings send telemetry to: an OTLP endpoint, or a list of direct backends.

In: `Config`. Out: a `Target`. Called by: `providers` (jobs), `wrap`, `script`, `shipping`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.endpoint import Endpoint, Target


def target_of(
    config: Config, environ: Mapping[str, str] | None = None, *, url: str | None = None, least_wait_s: float = 0.0
) -> Target:
    """What takes requests. `url` goes before the settings; `least_wait_s` is for those who have time to wait for an answer."""
    environ = os.environ if environ is None else environ
    if config.writes_itself and not url:
        from wafermonitor.instrumentation.direct import Direct  # protobuf and client libraries: only who needs them pays

        return Direct.of(config, environ, least_wait_s=least_wait_s)
    endpoint = Endpoint.of(config, environ, url=url)
    endpoint.timeout_s = max(endpoint.timeout_s, least_wait_s)
    return endpoint
