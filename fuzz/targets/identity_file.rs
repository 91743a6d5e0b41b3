//! The mirror file of the agent's identity, torn or overwritten: it is read well, or known to be bad.
#![no_main]

use dockctl_agent::state::fuzz_record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz_record(bytes));
