//! The native lane of WaferMonitor's receiver: OTLP protobuf requests in, rows for the database out.
//!
//! One pass over the bytes, no objects for messages, everything bounded, nothing panics on any input. The rules are those of the
//! Python lane (`wafermonitor.receiver.transcode`), and tests hold both to it row by row. `README.md` has the map.

pub mod copy;
pub mod decode;
pub mod digest;
pub mod encoder;
pub mod instant;
pub mod json;
pub mod lifecycle;
pub mod log;
pub mod marks;
pub mod measured;
pub mod names;
pub mod part;
pub mod point;
pub mod records;
pub mod reject;
pub mod request;
pub mod rowbinary;
pub mod run;
pub mod sample;
pub mod sender;
pub mod span;
pub mod text;
pub mod value;
pub mod wire;

#[cfg(feature = "python")]
mod python;
