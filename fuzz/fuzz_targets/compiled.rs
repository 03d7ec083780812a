#![no_main]

#[global_allocator]
static COUNTED: wgrad_fuzz::allocations::Counted = wgrad_fuzz::allocations::Counted;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wgrad_fuzz::parsers::compiled(bytes));
