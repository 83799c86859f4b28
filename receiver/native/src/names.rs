//! The attribute and event names that say something about a run. A test compares them with the registry's.

#![allow(missing_docs)] // each is the name that it holds

pub const ERROR_TYPE: &str = "error.type";
pub const HOST_NAME: &str = "host.name";
pub const PROCESS_PID: &str = "process.pid";
pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
pub const SERVICE_NAME: &str = "service.name";
pub const SERVICE_VERSION: &str = "service.version";
pub const WAFER_EQUIPMENT_ID: &str = "wafer.equipment.id";
pub const WAFER_FEED_ID: &str = "wafer.feed.id";
pub const WAFER_JOB_ATTEMPT: &str = "wafer.job.attempt";
pub const WAFER_JOB_CPU_TIME: &str = "wafer.job.cpu.time";
pub const WAFER_JOB_DEADLINE: &str = "wafer.job.deadline";
pub const WAFER_JOB_EXPECTED_DURATION: &str = "wafer.job.expected_duration";
pub const WAFER_JOB_HEARTBEAT_INTERVAL: &str = "wafer.job.heartbeat.interval";
pub const WAFER_JOB_MEMORY_MAX: &str = "wafer.job.memory.max";
pub const WAFER_JOB_NAME: &str = "wafer.job.name";
pub const WAFER_JOB_NOMINAL_TIME: &str = "wafer.job.nominal_time";
pub const WAFER_JOB_OWNER: &str = "wafer.job.owner";
pub const WAFER_JOB_PARENT_RUN_ID: &str = "wafer.job.parent.run.id";
pub const WAFER_JOB_PARENT_SPAN_ID: &str = "wafer.job.parent.span.id";
pub const WAFER_JOB_PROGRESS_COMPLETED: &str = "wafer.job.progress.completed";
pub const WAFER_JOB_PROGRESS_MESSAGE: &str = "wafer.job.progress.message";
pub const WAFER_JOB_PROGRESS_RATIO: &str = "wafer.job.progress.ratio";
pub const WAFER_JOB_PROGRESS_STAGE: &str = "wafer.job.progress.stage";
pub const WAFER_JOB_PROGRESS_TOTAL: &str = "wafer.job.progress.total";
pub const WAFER_JOB_PROGRESS_UNIT: &str = "wafer.job.progress.unit";
pub const WAFER_JOB_RESULT: &str = "wafer.job.result";
pub const WAFER_JOB_RUN_ID: &str = "wafer.job.run.id";
pub const WAFER_JOB_START_TIME_UNIX_NANO: &str = "wafer.job.start_time_unix_nano";
pub const WAFER_JOB_TRIGGER: &str = "wafer.job.trigger";
pub const WAFER_LOT_IDS: &str = "wafer.lot.ids";
pub const WAFER_PRODUCT_ID: &str = "wafer.product.id";
pub const WAFER_RECIPE_NAME: &str = "wafer.recipe.name";
pub const WAFER_REPAIRED: &str = "wafer.repaired";
pub const WAFER_SITE_ID: &str = "wafer.site.id";
pub const WAFER_SUBSTRATE_IDS: &str = "wafer.substrate.ids";

/// The names of log records and span events.
pub mod events {
    pub const WAFER_FEED_BEAT: &str = "wafer.feed.beat";
    pub const WAFER_JOB_END: &str = "wafer.job.end";
    pub const WAFER_JOB_EXCEPTION: &str = "wafer.job.exception";
    pub const WAFER_JOB_HEARTBEAT: &str = "wafer.job.heartbeat";
    pub const WAFER_JOB_PROGRESS: &str = "wafer.job.progress";
    pub const WAFER_JOB_START: &str = "wafer.job.start";
}
