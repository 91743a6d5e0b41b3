//! A container as it is named on the command line. dockctl is a program, not a library: its one file is taken in.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../ctl/src/refs.rs"]
mod refs;
#[allow(dead_code)]
mod select {
    pub(crate) fn is_glob(text: &str) -> bool {
        text.contains(['*', '?'])
    }
}

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<refs::Ref>() {
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
});
