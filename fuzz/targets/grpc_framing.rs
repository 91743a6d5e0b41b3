//! gRPC bodies cut anywhere, and what the forwarder reads in a request that it does not know.
#![no_main]

use dockctl_controller::fleet::forward;
use dockctl_link::framing::{Deframer, PREFIX};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4_096;

/// Every message until the end or the first error.
fn messages(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut deframer, mut messages) = (Deframer::default(), Vec::new());
    for piece in pieces {
        deframer.push(piece);
        loop {
            match deframer.next(LIMIT) {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(_) => return (messages, false),
            }
        }
    }
    (messages, true)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, body) = input;
    let whole = messages(&[body]);
    let (head, tail) = body.split_at(body.len() * usize::from(cut) / 256);
    assert_eq!(messages(&[head, tail]), whole);
    let taken: usize = whole.0.iter().map(|message| PREFIX + message.len()).sum();
    assert!(taken <= body.len());
    for message in whole.0.iter().map(Vec::as_slice).chain([body]) {
        let _ = forward::target(message, cut % 2 == 0);
    }
});
