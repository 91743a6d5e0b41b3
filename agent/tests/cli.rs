//! The real binary's command line: mistakes end with exit code 2 and a sentence, before anything is sent
//! or stored.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use std::process::{Command, Stdio};

/// Runs an agent that must end with this exit code, and gives what it said.
fn ends_with(code: i32, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dockctl-agent"));
    let output = command.args(args).env_clear().stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?}");
    said
}

/// The same for a command line that makes no sense.
fn usage_error(args: &[&str]) -> String {
    ends_with(2, args)
}

#[test]
fn join_wants_host_and_port() {
    for address in [
        "127.0.0.1",
        "controller",
        "https://controller:7444",
        "controller:7444/",
        ":7444",
        "controller:0",
        "controller:65536",
        "::1:7444",
        "[controller]:7444",
    ] {
        let said = usage_error(&["join", address, "--token", "x", "--data-dir", "/nonexistent/d"]);
        assert!(said.contains("HOST:PORT"), "{address}: {said}");
    }
}

#[test]
fn a_docker_address_that_cannot_be_is_refused_before_the_token_is_used() {
    let parent = tempfile::tempdir().unwrap();
    let data_dir = parent.path().join("agent");
    let dir = data_dir.to_str().unwrap();
    let join = ["join", "[::1]:7444", "--token", "x", "--data-dir", dir, "--docker", "foo://x"];
    let said = usage_error(&join);
    assert!(said.contains("--docker") && said.contains("foo://"), "{said}");
    assert!(!data_dir.exists(), "something was stored");
}

#[test]
fn an_unknown_key_names_its_file() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("mine.toml");
    std::fs::write(&file, "dokcer = 'unix:///x'\n").unwrap();
    let config = file.to_str().unwrap();
    let said = usage_error(&["run", "--data-dir", "/nonexistent/d", "--config", config]);
    assert!(said.contains("mine.toml") && said.contains("dokcer"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_is_told_once() {
    let said = ends_with(1, &["run", "--data-dir", "/proc/x"]);
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    assert!(said.contains("/proc/x"), "{said}");
}

#[test]
fn help_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dockctl-agent"));
    let output = command.args(["join", "--help"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("HOST:PORT"));
}
