//! How much of a fault: a little in `make test`, all that THREATS asks for in `make chaos`.

/// The variable that asks for the full counts.
const FULL: &str = "DOCKCTL_FULL";

/// `small` in `make test`, `full` in `make chaos`: rounds, seconds, bytes.
pub fn rounds<T>(small: T, full: T) -> T {
    if is_full() { full } else { small }
}

/// Whether the full counts are asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os(FULL).is_some_and(|value| value == "1")
}
