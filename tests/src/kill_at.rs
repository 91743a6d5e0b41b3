//! Kills a program at one exact step: strace sends SIGKILL as the program enters a system call.

use std::process::Command;

/// `command`, killed when one of its threads begins its `n`th call of `syscall`. The process keeps its
/// own id, so that signals reach the program and not strace.
pub fn killed_at(command: &Command, syscall: &str, n: u32) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={syscall}")]);
    strace.args(["-e", &format!("inject={syscall}:signal=KILL:when={n}")]);
    strace.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(key, value),
            None => strace.env_remove(key),
        };
    }
    strace
}
