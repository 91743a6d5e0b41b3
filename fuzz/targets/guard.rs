//! What a Docker client sends to a host whose owner limits it, and the owner's own rule beside it: judged in one
//! spelling, and never what makes its caller root on the host.
#![no_main]

use dockctl_agent::guard::fuzz_guard;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| fuzz_guard(input));
