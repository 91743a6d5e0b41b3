//! An archive on its way into or out of a container; however it is cut, the same passes, unchanged.
#![no_main]

use dockctl_agent::engine::fuzz_tar_check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, body) = input;
    let whole = fuzz_tar_check(&[body]);
    let (head, tail) = body.split_at(body.len() * usize::from(cut) / 256);
    assert_eq!(fuzz_tar_check(&[head, tail]), whole);
    if let Ok(passed) = whole {
        assert_eq!(passed, body);
    }
});
