//! Inventory frames in any order: what is held is the agent's own, and bounded.
#![no_main]

use std::time::SystemTime;

use dockctl_api::link::v1::Inventory;
use dockctl_controller::fleet::inventory::View;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|frames: Vec<&[u8]>| {
    let mut view = View::default();
    for frame in frames {
        let Ok(frame) = Inventory::decode(frame) else {
            view.restart(); // A session that broke.
            continue;
        };
        view.apply("web-1", frame, SystemTime::UNIX_EPOCH);
        let (running, total) = view.counts();
        assert!(running <= total);
        assert!(view.images.iter().all(|image| image.agent == "web-1" && !image.stale));
    }
});
