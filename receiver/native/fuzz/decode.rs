//! `cargo +nightly fuzz run decode`: any bytes as requests of all signals.

#![no_main]

mod drill;

libfuzzer_sys::fuzz_target!(|data: &[u8]| drill::drill(data));
