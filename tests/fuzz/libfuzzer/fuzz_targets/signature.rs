#![no_main]
#![allow(missing_docs, reason = "the property is documented in its module")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::signature::check(data));
