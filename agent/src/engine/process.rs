//! A process of a container as this host sees it: found by the number that the engine gives, taken only
//! if its control group names the container, and known by its handle from then on, so that a number
//! that is used again hits nobody else. Used by `exec`.

use std::{fs, io};

use rustix::process::{
    Pid, PidfdFlags, Signal, getpgid, kill_process_group, pidfd_open, pidfd_send_signal,
};
use tokio::net::unix::pipe::Receiver;

/// Linux's signals by name; a signal's number is its place.
const SIGNALS: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal by its name, with or without SIG, or its number.
pub(super) fn signal(text: &str) -> Option<Signal> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let of_name = || SIGNALS.iter().position(|s| !s.is_empty() && *s == name);
    let number = text.parse().ok().or_else(|| of_name().and_then(|n| i32::try_from(n).ok()))?;
    Signal::from_named_raw(number)
}

/// A process of a container.
pub(super) struct Process {
    /// Becomes readable when the process ends, as a pipe does.
    handle: Receiver,
    pid: Pid,
    /// Its number within the container, where it can be known.
    pub(super) inside: Option<u32>,
}

impl Process {
    /// The process of that number, if this host has it and it belongs to the container of that id.
    pub(super) fn find(pid: i32, container: &str) -> Option<Self> {
        let pid = Pid::from_raw(pid)?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        if container.len() < 64 || !read("cgroup")?.contains(container) {
            return None;
        }
        let status = read("status").unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inside = numbers.and_then(|n| n.split_whitespace().last()).and_then(|n| n.parse().ok());
        Some(Self { handle: Receiver::from_owned_fd_unchecked(handle).ok()?, pid, inside })
    }

    /// Sends a signal to it and to all of its process group. One that has ended is no error.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        // Who executes a command in a container makes it the leader of a session.
        let sent = match getpgid(Some(self.pid)) {
            Ok(group) if group == self.pid => kill_process_group(group, signal),
            _ => pidfd_send_signal(&self.handle, signal),
        };
        match sent {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        let _ = self.handle.readable().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, signal_) in [
            ("INT", Signal::INT),
            ("sigterm", Signal::TERM),
            ("9", Signal::KILL),
            ("SIGUSR2", Signal::USR2),
            ("WINCH", Signal::WINCH),
        ] {
            assert_eq!(signal(text), Some(signal_), "{text}");
        }
        for bad in ["", "SIG", "0", "-9", "NOSUCH", "99"] {
            assert_eq!(signal(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_process_of_no_container_is_not_touched() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(Process::find(own, &"0".repeat(64)).is_none());
        assert!(Process::find(own, "").is_none());
        assert!(Process::find(0, &"0".repeat(64)).is_none());
    }
}
