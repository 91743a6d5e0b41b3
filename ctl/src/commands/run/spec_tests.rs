//! `recorded.json` is what docker's client 28.2.2 sent to a recording engine (API 1.47) for each of these
//! command lines of `docker create`, without what stands at its default, or what it said instead.

use std::{ffi::OsString, path::Path};

use serde::Deserialize;

use super::*;
use crate::args::{self, Command, run::Create};

#[derive(Deserialize)]
struct Case {
    words: Vec<String>,
    body: Option<Map<String, Value>>,
    error: Option<String>,
}

fn create(words: &[String]) -> Create {
    let words = ["dockctl", "create"].into_iter().chain(words.iter().map(String::as_str));
    let args = args::parse(words.map(OsString::from), &toml::Table::new(), Path::new(""));
    let Command::Create(create) = args.unwrap().command else { panic!() };
    *create
}

fn of(words: &[String]) -> Parsed<Map<String, Value>> {
    let args = create(words);
    super::super::Pull::parse(&args.pull)?;
    let local = |name: &str| (name == "HOME").then(|| "/root".to_owned());
    match spec(&args.flags, &args.words, true, local)? {
        Value::Object(body) => Ok(body),
        other => panic!("{other}"),
    }
}

/// Without what an engine reads as if it were not there.
fn said(object: &Map<String, Value>) -> Map<String, Value> {
    let nothing = [json!(null), json!(false), json!(0), json!(""), json!([]), json!({})];
    object
        .iter()
        .filter(|(_, v)| !nothing.contains(v))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

fn inner(object: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match object.remove(key) {
        Some(Value::Object(inner)) => said(&inner),
        _ => Map::new(),
    }
}

#[test]
fn every_flag_becomes_what_docker_makes_of_it() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("recorded.json")).unwrap();
    let mut wrong = Vec::new();
    for Case { words, body, error } in cases {
        let ours = of(&words).map(|mut ours| {
            let mut host = inner(&mut ours, "HostConfig");
            if host["RestartPolicy"]["Name"] == "no" {
                host.remove("RestartPolicy");
            }
            let endpoints = ours.remove("NetworkingConfig").unwrap()["EndpointsConfig"].take();
            // An older engine wants it here, a newer one there; docker sends it by the engine's version.
            ours.remove("MacAddress");
            let mut ours = said(&ours);
            ours.insert("HostConfig".to_owned(), host.into());
            if endpoints != json!({}) {
                ours.insert("Endpoints".to_owned(), endpoints);
            }
            ours
        });
        // Docker lists the settings of each network whole.
        let theirs = body.map(|mut body| {
            for (_, settings) in
                body.get_mut("Endpoints").and_then(Value::as_object_mut).into_iter().flatten()
            {
                if let Value::Object(known) = settings {
                    *known = said(known);
                }
            }
            body
        });
        let good = match (&ours, &theirs, &error) {
            (Ok(ours), Some(theirs), _) => ours == theirs,
            (Err(ours), _, Some(theirs)) => ours == theirs,
            _ => false,
        };
        if !good {
            wrong.push(format!("{words:?}\n  ours   {ours:?}\n  docker {theirs:?} {error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_path_of_this_machine_is_not_taken_for_one_of_the_host() {
    for line in ["-v ./data:/data b", "--mount type=bind,source=../x,target=/x b"] {
        let why = of(&words(line)).unwrap_err();
        assert!(why.contains("write the path on the host"), "{why}");
    }
}

#[test]
fn nobody_is_attached_to_a_detached_container() {
    let args = create(&words("-i b"));
    let spec = spec(&args.flags, &args.words, false, |_| None).unwrap();
    for (key, wanted) in [
        ("AttachStdin", false),
        ("AttachStdout", false),
        ("AttachStderr", false),
        ("StdinOnce", false),
        ("OpenStdin", true),
    ] {
        assert_eq!(spec[key], wanted, "{key}");
    }
}

#[test]
fn security_options_take_paths_away_and_profiles_in() {
    let host = of(&words("--security-opt systempaths=unconfined b")).unwrap()["HostConfig"].clone();
    assert_eq!((&host["MaskedPaths"], &host["ReadonlyPaths"]), (&json!([]), &json!([])));
    assert!(host.get("SecurityOpt").is_none());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{ \"defaultAction\" : \"SCMP_ACT_ALLOW\" }\n").unwrap();
    let flag = format!("--security-opt seccomp={} b", file.path().display());
    let host = of(&words(&flag)).unwrap()["HostConfig"].clone();
    assert_eq!(host["SecurityOpt"], json!([r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#]));
    std::fs::write(file.path(), "{").unwrap();
    assert!(of(&words(&flag)).unwrap_err().contains("failed"));
    let why = of(&words("--security-opt seccomp=/nonexistent b")).unwrap_err();
    assert_eq!(
        why,
        "opening seccomp profile (/nonexistent) failed: open /nonexistent: no such file or directory"
    );
}

#[test]
fn an_update_has_what_was_said_and_nothing_else() {
    let update = |line: &str| {
        let words = format!("dockctl update {line} c");
        let words = words.split_whitespace().map(OsString::from);
        let args = args::parse(words, &toml::Table::new(), Path::new("")).unwrap();
        let Command::Update(update) = args.command else { panic!() };
        super::update(&update)
    };
    assert_eq!(
        update("-m 64m --memory-swap -1 --cpus 0.5 -c 512 --pids-limit 7 --restart on-failure:3")
            .unwrap(),
        json!({
            "NanoCpus": 500_000_000, "CpuShares": 512, "Memory": 64 << 20, "MemorySwap": -1,
            "PidsLimit": 7, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        })
    );
    assert_eq!(
        update("").unwrap_err(),
        "you must provide one or more flags when using this command"
    );
    assert!(update("--memory x").unwrap_err().contains("invalid size: 'x'"));
}
