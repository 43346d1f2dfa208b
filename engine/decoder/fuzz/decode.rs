//! Looks for bytes on which the decoder's ways differ, or fall over. `cargo-fuzz` runs it; docs/JSON.md says how.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| thalweg_decoder::fuzzing::check(input));
