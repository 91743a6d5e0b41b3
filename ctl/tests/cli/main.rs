//! The real binary against a fake controller: what scripts and people rely on. Output contract, exit
//! codes, resumed follows, and the login under concurrency.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod fake;
mod services;

use std::{
    path::Path,
    process::{Output, Stdio},
    sync::atomic::Ordering,
};

use fake::{Fake, LINES, TOKEN};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

/// dockctl with nothing of the tester's own environment.
fn dockctl(config: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dockctl"));
    command
        .args(args.split_whitespace())
        .env_clear()
        .env("DOCKCTL_CONFIG", config)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs dockctl with the fake's token and no configuration file.
async fn run(fake: &Fake, args: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = dockctl(&dir.path().join("none.toml"), args);
    command.env("DOCKCTL_URL", &fake.url).env("DOCKCTL_TOKEN", TOKEN).output().await.unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[tokio::test]
async fn ps_prints_a_plain_table_when_piped() {
    let output = run(&Fake::start().await, "ps -a").await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = out(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("HOST    CONTAINER ID   IMAGE"), "{text}");
    assert_eq!(lines.len(), 5, "all pages: {text}");
    assert!(lines[1].contains("[::]:8080->80/tcp   app"), "{text}");
    assert!(lines[4].contains("Up 5 minutes (stale)"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    assert!(
        err(&output).contains("web-9: no containers known yet: no heartbeat"),
        "{}",
        err(&output)
    );
}

#[tokio::test]
async fn ps_prints_documents_for_scripts() {
    let fake = Fake::start().await;
    let json: serde_json::Value =
        serde_json::from_slice(&run(&fake, "ps -o json").await.stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 4);
    assert_eq!(json[0]["agent"], "web-1");
    assert_eq!(json[0]["labels"], serde_json::json!({}));
    assert_eq!(json[0]["ports"][0]["host_port"], 8080);
    let yaml = run(&fake, "ps -o yaml").await;
    let yaml: serde_json::Value = yaml_serde::from_slice(&yaml.stdout).unwrap();
    assert_eq!(yaml, json);
    assert_eq!(out(&run(&fake, "ps -q").await).lines().next(), Some("aaaaaaaaaaaa"));
}

#[tokio::test]
async fn an_ambiguous_name_lists_its_candidates() {
    let fake = Fake::start().await;
    let output = run(&fake, "stop db").await;
    assert_eq!(code(&output), 1);
    let text = err(&output);
    assert!(text.contains("web-1/db") && text.contains("web-2/db"), "{text}");
    assert!(fake.state.acted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_offline_agent_is_exit_5_with_its_cause() {
    let output = run(&Fake::start().await, "stop web-9/old").await;
    assert_eq!(code(&output), 5);
    let text = err(&output);
    assert!(text.starts_with("dockctl: web-9/old: web-9 is offline"), "{text}");
    assert!(text.contains("no heartbeat"), "{text}");
    assert!(text.contains("last seen"), "{text}");
    assert!(text.contains("safe to try again"), "{text}");
    // A follow waits for a link that was lost, not for one that never was.
    assert_eq!(code(&run(&Fake::start().await, "logs -f web-9/old").await), 5);
}

#[tokio::test]
async fn what_is_not_there_is_exit_4_with_a_suggestion() {
    let fake = Fake::start().await;
    let output = run(&fake, "logs ap").await;
    assert_eq!(code(&output), 4);
    assert!(err(&output).contains("dockctl ps -a"), "{}", err(&output));
    assert!(err(&output).contains("did you mean app?"), "{}", err(&output));
    let output = run(&fake, "start web-1/apq").await;
    assert_eq!(code(&output), 4);
    assert!(err(&output).contains("did you mean app?"), "{}", err(&output));
    let output = run(&fake, "start wen-1/app").await;
    assert_eq!(code(&output), 4);
    assert!(err(&output).contains("did you mean web-1?"), "{}", err(&output));
}

#[tokio::test]
async fn many_references_go_on_past_a_failure() {
    let fake = Fake::start().await;
    let output = run(&fake, "start app web-9/old web-2/db nope").await;
    assert_eq!(code(&output), 5, "the worst: {}", err(&output));
    let mut done: Vec<String> = out(&output).lines().map(str::to_owned).collect();
    done.sort();
    assert_eq!(done, ["app", "web-2/db"]);
    assert!(err(&output).contains("nope: No such container: nope"), "{}", err(&output));
    let json = run(&fake, "start app nope -o json").await;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json[0]["done"], true);
    assert_eq!(json[1]["done"], false);
}

#[tokio::test]
async fn a_selection_is_worked_on_by_as_many_as_are_allowed() {
    let fake = Fake::start().await;
    let output = run(&fake, "stop --yes --parallel 1 web-[12]/x").await;
    assert_eq!(code(&output), 4, "brackets are no glob: {}", err(&output));
    let output = run(&fake, "stop --yes --parallel 1 web-*/*").await;
    assert_eq!(code(&output), 1, "web-9 is away: {}", err(&output));
    assert!(
        err(&output).starts_with("stopped 3, failed 1 of 4\ndockctl: web-9/old: "),
        "{}",
        err(&output)
    );
    assert_eq!(fake.state.stopping.1.load(Ordering::SeqCst), 1);
    // All three meet at the gate only if they are under way at the same time.
    *fake.state.gather.lock().unwrap() = Some(std::sync::Arc::new(tokio::sync::Barrier::new(3)));
    let output = run(&fake, "stop --yes --parallel 4 web-*/*").await;
    assert!(err(&output).contains("stopped 3, failed 1 of 4"), "{}", err(&output));
    assert_eq!(code(&run(&fake, "stop --yes --parallel 0 web-*/*").await), 2);
    assert_eq!(code(&run(&fake, "stop web-*/*").await), 2, "nobody to ask");
}

#[tokio::test]
async fn many_logs_have_coloured_prefixes_on_a_terminal_only() {
    let fake = Fake::start().await;
    let shown = on_a_terminal(&fake, "logs --tail 1 web-1/evil web-1/app").await;
    assert!(shown.contains("web-1/evil |\x1b[0m abc"), "{shown:?}");
    assert_eq!(shown.matches("\x1b[").count(), 4, "{shown:?}");
    let plain = on_a_terminal(&fake, "logs --no-color --tail 1 web-1/evil web-1/app").await;
    assert!(plain.contains("web-1/evil | abc") && !plain.contains('\x1b'), "{plain:?}");
    let piped = run(&fake, "logs --tail 1 web-1/evil web-1/app").await;
    assert!(out(&piped).contains("web-1/evil | a\x1b]0;t"), "{piped:?}");
}

#[tokio::test]
async fn top_is_for_terminals() {
    let output = run(&Fake::start().await, "top").await;
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("needs a terminal"), "{}", err(&output));
}

#[tokio::test]
async fn inspect_prints_the_engines_own_json() {
    let output = run(&Fake::start().await, "inspect app").await;
    assert_eq!(code(&output), 0);
    let text = out(&output);
    assert!(text.find("Zeta").unwrap() < text.find("Alpha").unwrap(), "in its order: {text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json[0]["Name"], "/app");
}

#[tokio::test]
async fn without_a_login_it_is_exit_3_and_says_how() {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let output = dockctl(&config, "ps").output().await.unwrap();
    assert_eq!(code(&output), 3);
    assert!(err(&output).contains("dockctl login"), "{}", err(&output));
    for (token, says) in [("bad", "dockctl login"), ("old", "expired"), ("viewer", "may not")] {
        let mut command = dockctl(&config, "ps");
        command.env("DOCKCTL_URL", &fake.url).env("DOCKCTL_TOKEN", token);
        let output = command.output().await.unwrap();
        assert_eq!(code(&output), 3, "{token}");
        assert!(err(&output).contains(says), "{token}: {}", err(&output));
        let wins = err(&output).contains("DOCKCTL_TOKEN is set and wins over the login");
        assert_eq!(wins, token != "viewer", "{token}: {}", err(&output));
    }
}

#[tokio::test]
async fn mistakes_on_the_command_line_are_exit_2() {
    let fake = Fake::start().await;
    for args in [
        "ps --nonsense",
        "stop",
        "logs a/b/c",
        "ps -o xml",
        "agents rm web-1",
        "login http://example.com",
        "ps --timeout 0",
        "ps --timeout 0s",
        "agents token create --uses 0",
        "agents token create --label nolabel",
        "agents label web-1 nolabel",
    ] {
        let output = run(&fake, args).await;
        assert_eq!(code(&output), 2, "{args}: {}", err(&output));
        assert!(output.stdout.is_empty(), "{args}");
    }
    assert_eq!(code(&run(&fake, "agents rm web-1 -y").await), 0);
}

#[tokio::test]
async fn a_controller_that_is_not_there_is_exit_5() {
    let dir = tempfile::tempdir().unwrap();
    // Bound and dropped: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = dockctl(&dir.path().join("c.toml"), "ps");
    command.env("DOCKCTL_URL", format!("http://127.0.0.1:{port}")).env("DOCKCTL_TOKEN", TOKEN);
    let output = command.output().await.unwrap();
    assert_eq!(code(&output), 5);
    assert!(err(&output).contains("no connection to http://127.0.0.1"), "{}", err(&output));
}

#[tokio::test]
async fn the_timeout_counts_while_connecting() {
    // Accepts and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = dockctl(&dir.path().join("c.toml"), "ps --timeout 200ms");
    command.env("DOCKCTL_URL", format!("https://{}", silent.local_addr().unwrap()));
    command.env("DOCKCTL_TOKEN", TOKEN).env("DOCKCTL_CA_FINGERPRINT", "0".repeat(64));
    let output = command.output().await.unwrap();
    assert_eq!(code(&output), 5);
    assert!(err(&output).contains("did not answer within 0.2 s"), "{}", err(&output));
}

#[tokio::test]
async fn a_wrong_port_or_scheme_is_named() {
    let fake = Fake::start_tls().await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let plain = fake.url.replace("https://", "http://");
    let output = login(&config, &plain, "", "secret").await;
    assert_eq!(code(&output), 5, "{}", err(&output));
    assert!(err(&output).contains(&format!("write {}", fake.url)), "{}", err(&output));

    let agents = Fake::start_without_services().await;
    let output = login(&config, &agents.url, "", "secret").await;
    assert_eq!(code(&output), 1, "{}", err(&output));
    assert!(err(&output).contains("the agents' port (7444"), "{}", err(&output));
    assert!(!config.exists());
}

#[tokio::test]
async fn an_unknown_key_names_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("mine.toml");
    std::fs::write(&config, "[defaults]\noutptu = \"json\"\n").unwrap();
    let output = dockctl(&config, "ps").output().await.unwrap();
    assert_eq!(code(&output), 2);
    let text = err(&output);
    assert!(text.contains("mine.toml") && text.contains("outptu"), "{text}");
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = dockctl(&dir.path().join("c.toml"), "logs web-1/endless");
    command.env("DOCKCTL_URL", &fake.url).env("DOCKCTL_TOKEN", TOKEN);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut some = [0; 100_000];
    stdout.read_exact(&mut some).await.unwrap();
    drop(stdout);
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(err(&output), "");
}

fn expected(wanted: dockctl_api::v1::LogStream, from: usize) -> String {
    (from..LINES)
        .map(fake::line)
        .filter(|(stream, ..)| *stream == wanted)
        .map(|(_, _, text)| text + "\n")
        .collect()
}

#[tokio::test]
async fn a_whole_log_is_passed_through() {
    use dockctl_api::v1::LogStream::{Stderr, Stdout};
    let fake = Fake::start().await;
    let output = run(&fake, "logs app").await;
    assert_eq!(code(&output), 0);
    assert_eq!(out(&output), expected(Stdout, 0));
    assert_eq!(err(&output), expected(Stderr, 0));
    assert!(!fake.state.logs.lock().unwrap()[0].timestamps);
    let output = run(&fake, "logs -t --tail 3 app").await;
    assert!(out(&output).lines().all(|l| l.starts_with("2023-11-14T")), "{}", out(&output));
}

/// Runs dockctl and drops its connection once it has printed `until`.
async fn run_and_cut(fake: &Fake, args: &str, until: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = dockctl(&dir.path().join("none.toml"), args);
    command.env("DOCKCTL_URL", &fake.url).env("DOCKCTL_TOKEN", TOKEN);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(until) {
        assert_ne!(stdout.read_buf(&mut read).await.unwrap(), 0, "{args} ended too soon");
    }
    fake.state.cut();
    stdout.read_to_end(&mut read).await.unwrap();
    Output { stdout: read, ..child.wait_with_output().await.unwrap() }
}

#[tokio::test]
async fn a_follow_survives_a_lost_link_and_a_lost_connection() {
    use dockctl_api::v1::LogStream::{Stderr, Stdout};
    let fake = Fake::start().await;
    let output = run_and_cut(&fake, "logs -f app", "line 120 ").await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(out(&output), expected(Stdout, 0));
    let (notices, lines): (Vec<String>, Vec<String>) =
        err(&output).lines().map(|l| format!("{l}\n")).partition(|l| l.starts_with("link to"));
    assert_eq!(lines.concat(), expected(Stderr, 0));
    assert_eq!(
        notices.iter().filter(|n| n.contains("lost, reconnecting")).count(),
        2,
        "{notices:?}"
    );
    let asked = fake.state.logs.lock().unwrap();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|r| r.timestamps));
    assert!(asked[1].since.is_some() && asked[1].tail.is_none());
}

#[tokio::test]
async fn a_followed_log_as_json_is_an_object_a_line() {
    let fake = Fake::start().await;
    let output = run_and_cut(&fake, "logs -f --tail 250 -o json app", "line 165 ").await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    let lines: Vec<serde_json::Value> =
        out(&output).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 250);
    for (value, index) in lines.iter().zip(LINES - 250..) {
        assert_eq!(value["line"], fake::line(index).2.as_str());
    }
    assert_eq!(lines[0]["container"], "app");
    assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn streams_print_plain_lines() {
    let fake = Fake::start().await;
    assert_eq!(
        out(&run(&fake, "events").await),
        "2023-11-14T22:13:20.000000001Z web-1 container start aaaa (name=app)\n"
    );
    let stats = out(&run(&fake, "stats --no-stream").await);
    assert!(stats.contains("1.50%   1MiB / 1GiB"), "{stats}");
    let stats = out(&run(&fake, "stats").await);
    assert!(stats.starts_with("HOST ") && stats.lines().count() == 3, "{stats}");
    let stats = out(&run(&fake, "stats -o json").await);
    assert_eq!(stats.lines().count(), 2, "{stats}");
}

#[tokio::test]
async fn a_token_is_alone_on_stdout() {
    let fake = Fake::start().await;
    let output = run(&fake, "agents token create --label a=b").await;
    assert_eq!(out(&output), "dct_secret\n");
    assert!(err(&output).contains("dockctl-agent join 127.0.0.1:7444 --token dct_secret"));
    fake.state.agents_port.store(41_002, Ordering::SeqCst);
    let output = run(&fake, "agents token create").await;
    assert!(err(&output).contains("dockctl-agent join 127.0.0.1:41002 --token dct_secret"));
    let output = run(&fake, "agents token create --uses 3 -o json").await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["token"], "dct_secret");
    assert_eq!(json["id"], "t1");
    assert_eq!(json["max_uses"], 3);
}

/// Runs dockctl on a terminal of its own, made by script(1), and returns what that showed.
async fn on_a_terminal(fake: &Fake, args: &str) -> String {
    let mut command = Command::new("script");
    let line = format!("{} {args}", env!("CARGO_BIN_EXE_dockctl"));
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("NO_COLOR").env("TERM", "xterm");
    let output = command
        .env("DOCKCTL_URL", &fake.url)
        .env("DOCKCTL_TOKEN", TOKEN)
        .env("DOCKCTL_CONFIG", "/nonexistent/dockctl.toml")
        .output()
        .await
        .unwrap();
    out(&output)
}

#[tokio::test]
async fn a_terminal_gets_colours_but_no_escapes_of_containers() {
    let fake = Fake::start().await;
    assert_eq!(on_a_terminal(&fake, "logs web-1/evil").await.trim(), "abc");
    assert!(on_a_terminal(&fake, "logs --raw web-1/evil").await.contains("\x1b[31m"));
    assert!(on_a_terminal(&fake, "ps").await.contains("\x1b[32mUp 5 minutes"));
    assert!(!on_a_terminal(&fake, "ps --no-color").await.contains('\x1b'));
    // Piped, the bytes pass as they are.
    let piped = run(&fake, "logs web-1/evil").await;
    assert_eq!(piped.stdout, b"a\x1b]0;t\x07\x1b[31mb\xc2\x9b2Jc\n");
}

#[tokio::test]
async fn flags_can_be_variables_a_commands_own_with_its_name() {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = dockctl(&dir.path().join("none.toml"), "ps");
    command.env("DOCKCTL_URL", &fake.url).env("DOCKCTL_TOKEN", TOKEN).env("DOCKCTL_ON", "web-2");
    command.env("DOCKCTL_OUTPUT", "json").env("DOCKCTL_LABEL", "a=b").env("DOCKCTL_CA_FILE", "");
    let output = command.output().await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 4, "what was meant for another selects nothing");
    let mut stop = dockctl(&dir.path().join("none.toml"), "stop --yes");
    stop.env("DOCKCTL_URL", &fake.url).env("DOCKCTL_TOKEN", TOKEN).env("DOCKCTL_ON", "web-2");
    let output = stop.env("DOCKCTL_LABEL", "a").env("DOCKCTL_ALL", "1").output().await.unwrap();
    assert_eq!(code(&output), 2, "{}", err(&output));
    assert!(err(&output).contains("requires at least 1 argument"), "{}", err(&output));
    assert!(fake.state.acted.lock().unwrap().is_empty());
    command.env("DOCKCTL_PS_ON", "web-2").env("DOCKCTL_LOGS_TAIL", "no number");
    let output = command.output().await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let agents = json.as_array().unwrap().iter().map(|row| row["agent"].as_str());
    assert!(agents.clone().count() > 0 && agents.clone().all(|agent| agent == Some("web-2")));
    stop.env("DOCKCTL_STOP_ON", "web-2").env("DOCKCTL_STOP_YES", "1");
    let output = stop.output().await.unwrap();
    assert!(err(&output).contains("requires at least 1 argument"), "{}", err(&output));
    let output = command.env("DOCKCTL_OUTPUT", "xml").output().await.unwrap();
    assert_eq!(code(&output), 2);
    // The long name of a verb is the same verb, and the line wins.
    for (line, expected) in [("ps", 0), ("container ls", 0), ("ps --format {{.Names}}", 1)] {
        let mut command = dockctl(&dir.path().join("none.toml"), line);
        command.env("DOCKCTL_URL", &fake.url).env("DOCKCTL_TOKEN", TOKEN);
        let output = command.env("DOCKCTL_PS_FORMAT", "{{.ID}}").output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = told.lines().filter(|line| line.contains("app")).count();
        assert!(code(&output) == 0 && (names > 0) == (expected > 0), "{line}: {told}");
    }
}

/// Logs in with the password on stdin.
async fn login(config: &Path, url: &str, args: &str, password: &str) -> Output {
    let line = format!("login {url} --username admin --password-stdin {args}");
    let mut command = dockctl(config, &line);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A dockctl that refuses early has closed its stdin.
    let _ = child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).await;
    child.wait_with_output().await.unwrap()
}

#[tokio::test]
async fn a_login_by_fingerprint_is_kept_with_its_ca() {
    let fake = Fake::start_tls().await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");

    let output = login(&config, &fake.url, "", "secret").await;
    assert_eq!(code(&output), 2, "nobody to ask: {}", err(&output));
    assert!(err(&output).contains("--ca-fingerprint"), "{}", err(&output));

    let wrong = "ab".repeat(32);
    let output = login(&config, &fake.url, &format!("--ca-fingerprint {wrong}"), "secret").await;
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains(&wrong), "{}", err(&output));
    assert!(err(&output).contains(&fake.ca_fingerprint), "{}", err(&output));

    let good = format!("--ca-fingerprint {}", fake.ca_fingerprint);
    let output = login(&config, &fake.url, &good, "guess").await;
    assert_eq!(code(&output), 3);
    assert!(!config.exists());

    let output = login(&config, &fake.url, &good, "secret").await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    let output = dockctl(&config, "whoami").output().await.unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).starts_with("admin (admin) at https://127.0.0.1"), "{}", out(&output));

    // Another controller at the same address is not trusted, and gets no token.
    let other = Fake::start_tls().await;
    let text = std::fs::read_to_string(&config).unwrap().replace(&fake.url, &other.url);
    std::fs::write(&config, text).unwrap();
    let output = dockctl(&config, "ps").output().await.unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("is not the controller that is trusted"), "{}", err(&output));

    // By file as well.
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &other.ca_pem).unwrap();
    let output = login(&config, &other.url, &format!("--ca-file {}", ca.display()), "secret").await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    let output = dockctl(&config, "logout").output().await.unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    let output = dockctl(&config, "ps").output().await.unwrap();
    assert_eq!(code(&output), 3, "{}", err(&output));
    // The trust stays.
    assert_eq!(code(&login(&config, &other.url, "", "secret").await), 0);
}

#[tokio::test]
async fn concurrent_commands_refresh_once() {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let kept = format!(
        "# mine\n[defaults]\noutput = \"json\"\n\n[login]\nurl = \"{}\"\naccess_token = \"old\"\n\
         access_expires_at = 5\nrefresh_token = \"refresh-0\"\nrefresh_expires_at = 4000000000\n",
        fake.url
    );
    std::fs::write(&config, &kept).unwrap();
    let runs = (0..8).map(|_| dockctl(&config, "ps").output());
    for output in futures_util::future::join_all(runs).await {
        let output = output.unwrap();
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert!(out(&output).starts_with('['), "the file's default: {}", out(&output));
    }
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 1);
    assert!(std::fs::read_to_string(&config).unwrap().starts_with("# mine\n[defaults]"));

    // A token that the controller alone finds too old is renewed as well.
    let late = kept.replace("access_expires_at = 5", "access_expires_at = 4000000000");
    std::fs::write(&config, late.replace("refresh-0", "refresh-1")).unwrap();
    let output = dockctl(&config, "ps").output().await.unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 2);

    // A refresh token that is dead says so.
    std::fs::write(&config, &kept).unwrap();
    let output = dockctl(&config, "ps").output().await.unwrap();
    assert_eq!(code(&output), 3);
    assert!(err(&output).contains("the login has ended"), "{}", err(&output));
}

/// Compares with tests/cli/snapshots; `BLESS=1` writes them anew.
fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/snapshots").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, want, "{name} has changed; BLESS=1 accepts it");
}

#[tokio::test]
async fn help_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for (name, args) in [
        ("help.txt", "--help"),
        ("login.txt", "login --help"),
        ("agents.txt", "agents --help"),
        ("token-create.txt", "agents token create --help"),
        ("ps.txt", "ps --help"),
        ("logs.txt", "logs --help"),
        ("stop.txt", "stop --help"),
        ("top.txt", "top --help"),
    ] {
        let output = dockctl(&dir.path().join("c.toml"), args).output().await.unwrap();
        assert_eq!(code(&output), 0);
        snapshot(name, &out(&output));
    }
}

#[tokio::test]
async fn completions_are_made_for_each_shell() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let args = format!("completions {shell}");
        let output = dockctl(&dir.path().join("c.toml"), &args).output().await.unwrap();
        assert!(out(&output).contains("dockctl"), "{shell}");
    }
}

#[tokio::test]
async fn the_clients_version_is_told_even_alone() {
    let output = run(&Fake::start().await, "version").await;
    assert!(out(&output).contains("9.9.9"), "{}", out(&output));
    let dir = tempfile::tempdir().unwrap();
    let output = dockctl(&dir.path().join("c.toml"), "version").output().await.unwrap();
    assert_eq!(code(&output), 3);
    assert!(out(&output).starts_with("client"), "{}", out(&output));
}
