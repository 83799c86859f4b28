"""Attribute names: ours, and those of OpenTelemetry that we use.

In: nothing. Out: one constant per name (`wafer.job.name` is WAFER_JOB_NAME) and one per value of an enumeration.
Called by: every component; no such name stands as a string anywhere else.

Generated from otel-semconv/registry by `make generate`; change it there.
"""

from typing import Final

WAFER_SITE_ID: Final = "wafer.site.id"
"""The site (fab, plant) that a record belongs to."""

WAFER_AREA_NAME: Final = "wafer.area.name"
"""The area within a site, such as probe, etch or yield analysis."""

WAFER_FEED_ID: Final = "wafer.feed.id"
"""The feed that carried a record, one Collector on one host."""

WAFER_JOB_NAME: Final = "wafer.job.name"
"""The kind of batch work. A span with this attribute is a run."""

WAFER_JOB_RUN_ID: Final = "wafer.job.run.id"
"""One execution of a job, as its owner calls it. A searchable label; the key of a run is site, trace id and span id."""

WAFER_JOB_PARENT_RUN_ID: Final = "wafer.job.parent.run.id"
"""The `wafer.job.run.id` of the run that this run is a part of."""

WAFER_JOB_PARENT_SPAN_ID: Final = "wafer.job.parent.span.id"
"""The span id of the parent run, 16 lower-case hexadecimal digits."""

WAFER_JOB_START_TIME_UNIX_NANO: Final = "wafer.job.start_time_unix_nano"
"""When the run began, in nanoseconds since 1970-01-01 UTC."""

WAFER_JOB_KEY: Final = "wafer.job.key"
"""The key by which an older system called the job, where it differs from the name."""

WAFER_JOB_ATTEMPT: Final = "wafer.job.attempt"
"""Which attempt this run is; the first is 1."""

WAFER_JOB_TRIGGER: Final = "wafer.job.trigger"
"""What began the run."""

WAFER_JOB_TRIGGER_SCHEDULE: Final = "schedule"
"""A scheduler began it at its time."""

WAFER_JOB_TRIGGER_EVENT: Final = "event"
"""Something that happened began it, such as a file that arrived."""

WAFER_JOB_TRIGGER_MANUAL: Final = "manual"
"""A person began it."""

WAFER_JOB_TRIGGER_RETRY: Final = "retry"
"""An earlier attempt did not succeed."""

WAFER_JOB_TRIGGER_VALUES: Final = (
    WAFER_JOB_TRIGGER_SCHEDULE,
    WAFER_JOB_TRIGGER_EVENT,
    WAFER_JOB_TRIGGER_MANUAL,
    WAFER_JOB_TRIGGER_RETRY,
)
"""Every value of `wafer.job.trigger`."""

WAFER_JOB_NOMINAL_TIME: Final = "wafer.job.nominal_time"
"""When the run was scheduled to begin, RFC 3339."""

WAFER_JOB_EXPECTED_DURATION: Final = "wafer.job.expected_duration"
"""How long the run is expected to take, in seconds. Longer is overdue."""

WAFER_JOB_DEADLINE: Final = "wafer.job.deadline"
"""When the run must have ended, RFC 3339. Later is overdue."""

WAFER_JOB_OWNER: Final = "wafer.job.owner"
"""The team or person who answers for the job."""

WAFER_LOT_IDS: Final = "wafer.lot.ids"
"""The lots that the run works on."""

WAFER_SUBSTRATE_IDS: Final = "wafer.substrate.ids"
"""The wafers that the run works on, one entry each."""

WAFER_EQUIPMENT_ID: Final = "wafer.equipment.id"
"""The tool that the data comes from."""

WAFER_RECIPE_NAME: Final = "wafer.recipe.name"
"""The recipe or test program."""

WAFER_PRODUCT_ID: Final = "wafer.product.id"
"""The product that is made."""

WAFER_PARAM: Final = "wafer.param"
"""A parameter or a result of the run; the key says which. A key follows: `wafer.param.<key>`."""

WAFER_JOB_PROGRESS_RATIO: Final = "wafer.job.progress.ratio"
"""How much is done, from 0 to 1."""

WAFER_JOB_PROGRESS_COMPLETED: Final = "wafer.job.progress.completed"
"""How many units are done."""

WAFER_JOB_PROGRESS_TOTAL: Final = "wafer.job.progress.total"
"""How many units there are."""

WAFER_JOB_PROGRESS_UNIT: Final = "wafer.job.progress.unit"
"""What is counted."""

WAFER_JOB_PROGRESS_STAGE: Final = "wafer.job.progress.stage"
"""The step that the run is in."""

WAFER_JOB_PROGRESS_MESSAGE: Final = "wafer.job.progress.message"
"""One line for people."""

WAFER_JOB_HEARTBEAT_INTERVAL: Final = "wafer.job.heartbeat.interval"
"""How often the process sends a heartbeat while it has an open run, in seconds."""

WAFER_JOB_HEARTBEAT_SEQUENCE: Final = "wafer.job.heartbeat.sequence"
"""The number of the heartbeat in its process; the first is 1."""

WAFER_JOB_CPU_TIME: Final = "wafer.job.cpu.time"
"""CPU time of the process and its reaped children during the run, in seconds."""

WAFER_JOB_CPU_SHARED: Final = "wafer.job.cpu.shared"
"""True when other runs were open in the same process, so that the CPU time is theirs as well."""

WAFER_JOB_MEMORY_MAX: Final = "wafer.job.memory.max"
"""Highest resident memory of the process tree during the run, in bytes."""

WAFER_JOB_RESULT: Final = "wafer.job.result"
"""How the run ended."""

WAFER_JOB_RESULT_SUCCESS: Final = "success"
"""It did what it was to do."""

WAFER_JOB_RESULT_FAILURE: Final = "failure"
"""The job itself failed, by an exception or an exit code."""

WAFER_JOB_RESULT_ERROR: Final = "error"
"""Its surroundings failed, such as a kill, a lost host or no memory."""

WAFER_JOB_RESULT_TIMEOUT: Final = "timeout"
"""It took longer than it was allowed to."""

WAFER_JOB_RESULT_CANCELLATION: Final = "cancellation"
"""Somebody stopped it (SIGTERM, SIGINT)."""

WAFER_JOB_RESULT_SKIP: Final = "skip"
"""There was nothing to do."""

WAFER_JOB_RESULT_VALUES: Final = (
    WAFER_JOB_RESULT_SUCCESS,
    WAFER_JOB_RESULT_FAILURE,
    WAFER_JOB_RESULT_ERROR,
    WAFER_JOB_RESULT_TIMEOUT,
    WAFER_JOB_RESULT_CANCELLATION,
    WAFER_JOB_RESULT_SKIP,
)
"""Every value of `wafer.job.result`."""

WAFER_JOB_DURATION: Final = "wafer.job.duration"
"""How long the run took, in seconds."""

WAFER_JOB_INFERRED: Final = "wafer.job.inferred"
"""True when nobody reported the end and the run was counted as ended after being lost for long."""

WAFER_REPAIRED: Final = "wafer.repaired"
"""What the receiver had to mend in the record before it could be stored."""

WAFER_ALERT_ID: Final = "wafer.alert.id"
"""One alert, from its beginning to its end, 32 lower-case hexadecimal digits."""

WAFER_ALERT_FINGERPRINT: Final = "wafer.alert.fingerprint"
"""Rule and subject of an alert in 32 lower-case hexadecimal digits, the same whenever it comes again."""

WAFER_ALERT_RULE: Final = "wafer.alert.rule"
"""The name of the rule."""

WAFER_ALERT_KIND: Final = "wafer.alert.kind"
"""Why somebody is told."""

WAFER_ALERT_KIND_FIRING: Final = "firing"
"""It is so now."""

WAFER_ALERT_KIND_ESCALATED: Final = "escalated"
"""It is still so and nobody has acknowledged it."""

WAFER_ALERT_KIND_RESOLVED: Final = "resolved"
"""It is over."""

WAFER_ALERT_KIND_VALUES: Final = (
    WAFER_ALERT_KIND_FIRING,
    WAFER_ALERT_KIND_ESCALATED,
    WAFER_ALERT_KIND_RESOLVED,
)
"""Every value of `wafer.alert.kind`."""

WAFER_ALERT_SEVERITY: Final = "wafer.alert.severity"
"""How soon a person should look."""

WAFER_ALERT_SEVERITY_INFO: Final = "info"
"""Nobody needs to look now."""

WAFER_ALERT_SEVERITY_WARNING: Final = "warning"
"""Somebody should look today."""

WAFER_ALERT_SEVERITY_CRITICAL: Final = "critical"
"""Somebody should look at once."""

WAFER_ALERT_SEVERITY_VALUES: Final = (
    WAFER_ALERT_SEVERITY_INFO,
    WAFER_ALERT_SEVERITY_WARNING,
    WAFER_ALERT_SEVERITY_CRITICAL,
)
"""Every value of `wafer.alert.severity`."""

WAFER_ALERT_START_TIME_UNIX_NANO: Final = "wafer.alert.start_time_unix_nano"
"""Since when it has been so, in nanoseconds since 1970-01-01 UTC."""

WAFER_ALERT_EVIDENCE: Final = "wafer.alert.evidence"
"""The numbers behind an alert, a JSON object."""

WAFER_ALERT_CAUSE: Final = "wafer.alert.cause"
"""What it comes from, one line for people."""

WAFER_ALERT_RUNBOOK: Final = "wafer.alert.runbook"
"""Address of a page that says what to do."""

WAFER_LEGACY_APP_ID: Final = "wafer.legacy.app.id"
"""The `app_id` of an application that speaks the older vocabulary."""

WAFER_LEGACY_IDEMPOTENCY_KEY: Final = "wafer.legacy.idempotency_key"
"""The `idempotency_key` of an event in the older vocabulary."""

WAFER_LEGACY_SOURCE: Final = "wafer.legacy.source"
"""The `source` of a batch in the older vocabulary, such as the program that handed it on."""

CLOUD_PLATFORM: Final = "cloud.platform"
"""OpenTelemetry's `cloud.platform`."""

CLOUD_PROVIDER: Final = "cloud.provider"
"""OpenTelemetry's `cloud.provider`."""

CLOUD_REGION: Final = "cloud.region"
"""OpenTelemetry's `cloud.region`."""

CODE_FILE_PATH: Final = "code.file.path"
"""OpenTelemetry's `code.file.path`."""

CODE_FUNCTION_NAME: Final = "code.function.name"
"""OpenTelemetry's `code.function.name`."""

CODE_LINE_NUMBER: Final = "code.line.number"
"""OpenTelemetry's `code.line.number`."""

CPU_MODE: Final = "cpu.mode"
"""OpenTelemetry's `cpu.mode`."""

CPU_MODE_USER: Final = "user"
"""A value of `cpu.mode`."""

CPU_MODE_SYSTEM: Final = "system"
"""A value of `cpu.mode`."""

DEPLOYMENT_ENVIRONMENT_NAME: Final = "deployment.environment.name"
"""OpenTelemetry's `deployment.environment.name`."""

ERROR_TYPE: Final = "error.type"
"""OpenTelemetry's `error.type`."""

EXCEPTION_MESSAGE: Final = "exception.message"
"""OpenTelemetry's `exception.message`."""

EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
"""OpenTelemetry's `exception.stacktrace`."""

EXCEPTION_TYPE: Final = "exception.type"
"""OpenTelemetry's `exception.type`."""

FAAS_COLDSTART: Final = "faas.coldstart"
"""OpenTelemetry's `faas.coldstart`."""

FAAS_INVOCATION_ID: Final = "faas.invocation_id"
"""OpenTelemetry's `faas.invocation_id`."""

FAAS_NAME: Final = "faas.name"
"""OpenTelemetry's `faas.name`."""

FAAS_VERSION: Final = "faas.version"
"""OpenTelemetry's `faas.version`."""

HOST_NAME: Final = "host.name"
"""OpenTelemetry's `host.name`."""

LOG_IOSTREAM: Final = "log.iostream"
"""OpenTelemetry's `log.iostream`."""

LOG_IOSTREAM_STDOUT: Final = "stdout"
"""A value of `log.iostream`."""

LOG_IOSTREAM_STDERR: Final = "stderr"
"""A value of `log.iostream`."""

PROCESS_EXECUTABLE_NAME: Final = "process.executable.name"
"""OpenTelemetry's `process.executable.name`."""

PROCESS_EXIT_CODE: Final = "process.exit.code"
"""OpenTelemetry's `process.exit.code`."""

PROCESS_PID: Final = "process.pid"
"""OpenTelemetry's `process.pid`."""

PROCESS_RUNTIME_NAME: Final = "process.runtime.name"
"""OpenTelemetry's `process.runtime.name`."""

PROCESS_RUNTIME_VERSION: Final = "process.runtime.version"
"""OpenTelemetry's `process.runtime.version`."""

SERVICE_INSTANCE_ID: Final = "service.instance.id"
"""OpenTelemetry's `service.instance.id`."""

SERVICE_NAME: Final = "service.name"
"""OpenTelemetry's `service.name`."""

SERVICE_NAMESPACE: Final = "service.namespace"
"""OpenTelemetry's `service.namespace`."""

SERVICE_VERSION: Final = "service.version"
"""OpenTelemetry's `service.version`."""

TELEMETRY_DISTRO_NAME: Final = "telemetry.distro.name"
"""OpenTelemetry's `telemetry.distro.name`."""

TELEMETRY_DISTRO_VERSION: Final = "telemetry.distro.version"
"""OpenTelemetry's `telemetry.distro.version`."""

TELEMETRY_SDK_LANGUAGE: Final = "telemetry.sdk.language"
"""OpenTelemetry's `telemetry.sdk.language`."""

TELEMETRY_SDK_NAME: Final = "telemetry.sdk.name"
"""OpenTelemetry's `telemetry.sdk.name`."""

TELEMETRY_SDK_VERSION: Final = "telemetry.sdk.version"
"""OpenTelemetry's `telemetry.sdk.version`."""

THREAD_NAME: Final = "thread.name"
"""OpenTelemetry's `thread.name`."""
