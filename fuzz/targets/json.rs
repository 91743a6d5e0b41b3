//! What curl or a page sends as JSON, and what an agent answers, for each rpc.
#![no_main]

use std::sync::LazyLock;

use dockctl_controller::edge::json::Json;
use libfuzzer_sys::fuzz_target;

static JSON: LazyLock<Json> = LazyLock::new(|| Json::new().unwrap());

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (rpc, text, message) = input;
    JSON.fuzz(rpc.into(), text, message);
});
