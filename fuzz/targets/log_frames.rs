//! The body of a log as the engine, or what pretends to be one, sends it; however it is cut, the
//! records are the same.
#![no_main]

use dockctl_agent::engine::fuzz_demux;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, bool, u8, &[u8])| {
    let (tty, timestamps, cut, body) = input;
    let whole = fuzz_demux(tty, timestamps, &[body]);
    let (head, tail) = body.split_at(body.len() * usize::from(cut) / 256);
    assert_eq!(fuzz_demux(tty, timestamps, &[head, tail]), whole);
});
