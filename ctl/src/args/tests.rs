//! What the command line takes, and what it makes of it.

use super::*;

fn args(line: &str, defaults: &str) -> Result<Args, Refused> {
    let words = line.split_whitespace().map(OsString::from);
    parse(words, &defaults.parse().unwrap(), Path::new("/my/config.toml"))
}

/// What is said of a line that makes no sense, and the exit code.
fn mistake(line: &str, defaults: &str) -> (String, u8) {
    match args(line, defaults) {
        Err(Refused::Mistake(error)) => (error.told().unwrap().to_string(), error.code()),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_command_line_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn the_command_line_is_sound_with_all_that_is_added_to_it() {
    booleans::with_values(Args::command()).debug_assert();
}

#[test]
fn flags_win_over_the_files_defaults() {
    let defaults = "output = \"yaml\"\ntail = 5\n[ps]\nall = true\nlabel = [\"a=b\", \"c\"]";
    let ps = args("dockctl ps", defaults).unwrap();
    assert_eq!(ps.global.format(), Format::Yaml);
    let Command::Ps(ps) = ps.command else { panic!() };
    assert!(ps.all);
    assert_eq!(ps.label, ["a=b", "c"]);
    let Command::Ps(ps) = args("dockctl ps --all=false -l d", defaults).unwrap().command else {
        panic!()
    };
    assert!(!ps.all && ps.label == ["d"]);
    let logs = args("dockctl logs x -o json --tail all", defaults).unwrap();
    assert_eq!(logs.global.format(), Format::Json);
    let Command::Logs(logs) = logs.command else { panic!() };
    assert_eq!(logs.tail, Tail(None));
}

#[test]
fn a_default_is_for_its_own_command_only() {
    let defaults = "[ps]\nall = true\nlabel = [\"a=b\"]\n[run]\npull = \"always\"\nname = \"x\"\n\
        [rmi]\nno-prune = true\n[system.df]\nverbose = true\n[stop]\ntimeout = 30";
    let of = |line: &str| args(line, defaults).unwrap().command;
    let Command::System(stores::System::Prune { all, volumes, prune }) = of("dockctl system prune")
    else {
        panic!()
    };
    assert!(!all && !volumes && !prune.force);
    let Command::System(stores::System::Df { verbose, .. }) = of("dockctl system df") else {
        panic!()
    };
    assert!(verbose);
    let Command::Stop(stop) = of("dockctl stop x") else { panic!() };
    assert!(!stop.many.selects() && !stop.many.yes);
    assert_eq!(stop.grace(), Some(30));
    let Command::Restart(restart) = of("dockctl restart x") else { panic!() };
    assert_eq!(restart.grace(), None);
    let Command::Build(build) = of("dockctl build .") else { panic!() };
    assert!(!build.pull && build.label.is_empty());
    let Command::Create(create) = of("dockctl create x") else { panic!() };
    assert_eq!((create.pull.as_str(), create.name.as_str()), ("missing", ""));
    // The long name of a verb is the same verb.
    for line in ["dockctl run x", "dockctl container run x"] {
        let Command::Run(run) = of(line) else { panic!() };
        assert_eq!((run.create.pull.as_str(), run.create.name.as_str()), ("always", "x"), "{line}");
        assert!(run.create.flags.label.is_empty());
    }
    let Command::Ps(ps) = of("dockctl container ls") else { panic!() };
    assert!(ps.all);
    let Command::Images(images::ImagesCommand { verb: Some(images::ImageVerb::Rm(rmi)), .. }) =
        of("dockctl image rm x")
    else {
        panic!()
    };
    assert!(rmi.no_prune);
}

#[test]
fn what_cannot_be_a_default_is_told() {
    for (defaults, says) in [
        ("colour = true", "its [defaults] has \"colour\", which is no flag"),
        ("all = true", "[defaults] has \"all\", which not every command means alike"),
        ("name = \"x\"", "which not every command means alike"),
        ("[psst]\nall = true", "the table \"psst\", which is no command"),
        ("[ps]\nvolumes = true", "[defaults.ps] has \"volumes\", which is no flag of it"),
        ("[stop]\nlabel = \"a=b\"", "must be said on the command line"),
        ("[rm]\non = \"web-*\"", "must be said on the command line"),
    ] {
        let (said, code) = mistake("dockctl ps", defaults);
        assert!(said.starts_with("/my/config.toml: its ") && said.contains(says), "{said}");
        assert_eq!(code, 2);
    }
}

#[test]
fn only_what_is_near_is_suggested_and_dockers_own_is_told() {
    for (line, says) in [
        ("dockctl pss", Some("Did you mean ps?")),
        ("dockctl contaner ls", Some("Did you mean container?")),
        ("dockctl nonsense", None),
        ("dockctl compose up", Some("dockctl docker HOST -- compose ...")),
    ] {
        let (said, code) = mistake(line, "");
        assert!(says.is_none_or(|says| said.contains(says)), "{said}");
        assert_eq!(
            (said.contains("Did you mean"), code),
            (says.is_some_and(|s| s.starts_with('D')), 2),
            "{said}"
        );
    }
    for line in ["dockctl docker web-1 -- ps -a", "dockctl docker web-1 ps -a"] {
        let Command::Docker(docker) = args(line, "").unwrap().command else { panic!() };
        assert_eq!(
            (docker.agent.as_str(), docker.words),
            ("web-1", vec!["ps".into(), "-a".into()])
        );
    }
}

#[test]
fn a_verbs_own_timeout_is_its_own() {
    let stop = |line: &str| match args(line, "").unwrap() {
        Args { command: Command::Stop(stop) | Command::Restart(stop), global } => {
            (stop.grace(), global.patience())
        }
        other => panic!("{other:?}"),
    };
    for line in ["stop --timeout 30 x", "stop -t 30 x", "restart --time=30 x", "restart -t30 x"] {
        assert_eq!(stop(&format!("dockctl {line}")), (Some(30), None), "{line}");
    }
    assert_eq!(stop("dockctl stop -t -1 x"), (Some(-1), None));
    let minute = Some(Duration::from_secs(60));
    assert_eq!(stop("dockctl --timeout 1m stop x"), (None, minute));
    assert_eq!(args("dockctl kill --timeout 1m x", "").unwrap().global.patience(), minute);
}

#[test]
fn flags_that_are_on_or_off_take_a_value() {
    let run = |line: &str| match args(line, "").unwrap().command {
        Command::Run(run) => (run.create.flags.rm, run.create.flags.tty, run.detach),
        other => panic!("{other:?}"),
    };
    assert_eq!(run("dockctl run --rm=true -t=false -d image"), (true, false, true));
    assert_eq!(run("dockctl run --rm -td=0 image"), (true, true, false));
    assert_eq!(run("dockctl run --rm --rm=F -dt image --rm"), (false, true, true));
    let (said, code) = mistake("dockctl rm --force=maybe x", "");
    assert!(
        said.starts_with(
            "invalid argument \"maybe\" for \"-f, --force\" flag: \
         strconv.ParseBool: parsing \"maybe\": invalid syntax\n\nUsage:  dockctl rm "
        ),
        "{said}"
    );
    assert_eq!(code, 2);
}

#[test]
fn a_file_to_write_is_not_a_format() {
    let export = |line: &str, defaults: &str| {
        let args = args(line, defaults).unwrap();
        let Command::Export(export) = &args.command else { panic!() };
        (args.global.format(), export.file().cloned())
    };
    assert_eq!(export("dockctl export x", ""), (Format::Table, None));
    assert_eq!(export("dockctl export -o a.tar x", ""), (Format::Table, Some("a.tar".into())));
    assert_eq!(export("dockctl export x", "output = \"json\"").1, None);
    assert_eq!(export("dockctl -o json export x", "").1, None);
}

#[test]
fn what_comes_after_the_image_is_the_containers() {
    let run = |line: &str| {
        let Command::Run(run) = args(line, "").unwrap().command else { panic!() };
        run
    };
    let plain = run("dockctl run --on a -dit -h web -e A=1 -p 80:80 image sh -c -e -o --rm x");
    assert_eq!(plain.create.words, ["image", "sh", "-c", "-e", "-o", "--rm", "x"]);
    assert!(plain.detach && plain.create.flags.interactive && plain.create.flags.tty);
    assert_eq!(plain.create.flags.env, ["A=1"]);
    assert!(!plain.create.flags.rm && plain.sig_proxy);
    assert_eq!(plain.create.flags.hostname.as_deref(), Some("web"));
    let other = run("dockctl run --sig-proxy=false --entrypoint= -m -5 image --help");
    assert_eq!(other.create.words, ["image", "--help"]);
    assert!(!other.sig_proxy);
    assert_eq!(other.create.flags.entrypoint.as_deref(), Some(""));
    assert_eq!(other.create.flags.memory.as_deref(), Some("-5"));
    assert_eq!(mistake("dockctl run", "").1, 2);
}

#[test]
fn bad_references_and_times_are_usage_errors() {
    for line in
        ["dockctl logs a/b/c", "dockctl logs --since soon x", "dockctl stop", "dockctl ps x"]
    {
        assert_eq!(mistake(line, "").1, 2, "{line}");
    }
}

#[test]
fn mistakes_are_told_in_dockers_sentences() {
    for (line, says, code) in [
        ("run", "'dockctl run' requires at least 1 argument", 2),
        ("run --nope x", "unknown flag: --nope", 125),
        ("create -dZ x", "unknown shorthand flag: 'd' in -dZ", 125),
        ("run -dZx x", "unknown shorthand flag: 'Z' in -Zx", 125),
        ("run -Z x", "unknown shorthand flag: 'Z' in -Z", 125),
        ("run --cpus", "flag needs an argument: --cpus", 125),
        ("run -e", "flag needs an argument: 'e' in -e", 125),
        ("exec a", "'dockctl exec' requires at least 2 arguments", 125),
        ("attach a b", "'dockctl attach' requires 1 argument", 125),
        ("rename a", "'dockctl rename' requires 2 arguments", 2),
        ("commit", "'dockctl commit' requires at least 1 and at most 2 arguments", 2),
        ("stop", "'dockctl stop' requires at least 1 argument", 2),
        ("ps x", "'dockctl ps' accepts no arguments", 2),
        ("volume rm", "'dockctl volumes rm' requires at least 1 argument", 2),
        ("volume nope", "unknown command: dockctl volumes nope", 2),
        ("nope", "unknown command: dockctl nope", 2),
        ("--nope ps", "unknown flag: --nope", 2),
        (
            "stop -t x y",
            "invalid argument \"x\" for \"-t, --timeout\" flag: \
             strconv.ParseInt: parsing \"x\": invalid syntax",
            2,
        ),
        (
            "ps -o xml",
            "invalid argument \"xml\" for \"-o, --output\" flag: must be one of table, json, yaml",
            2,
        ),
        ("docker-socket web-1", "required flag(s) \"listen\" not set", 2),
    ] {
        let (said, exit) = mistake(&format!("dockctl {line}"), "");
        assert_eq!(said.lines().next(), Some(says), "{line}");
        assert_eq!(exit, code, "{line}");
        assert!(said.contains("\n\nUsage:  dockctl"), "{said}");
    }
    let (said, _) = mistake("dockctl run --nope x", "");
    assert_eq!(
        said,
        "unknown flag: --nope\n\n\
         Usage:  dockctl run [--on AGENT] [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n\
         See 'dockctl run --help'."
    );
}

#[test]
fn the_configuration_file_is_found_first() {
    let path =
        |line: &str| config_path(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
    assert_eq!(path("dockctl ps --config a.toml"), Some("a.toml".into()));
    assert_eq!(path("dockctl --config=b.toml ps"), Some("b.toml".into()));
    assert_eq!(path("dockctl logs -- --config"), None);
    assert_eq!(path("dockctl run image program --config c.toml"), None);
    assert_eq!(path("dockctl --config a exec x prog --config b"), Some("a".into()));
    assert_eq!(path("dockctl exec --config a -it x prog"), Some("a".into()));
    assert_eq!(path("dockctl exec x prog --config b"), None);
    assert_eq!(path("dockctl --config a nonsense --flag"), Some("a".into()));
}

#[test]
fn the_words_of_a_command_are_its_own() {
    let exec = |line| match args(line, "").unwrap().command {
        Command::Exec(exec) => exec,
        other => panic!("{other:?}"),
    };
    let one = exec("dockctl exec -it -e A=1 -e B web-1/app ls -la -o json -- --help");
    assert!(one.interactive && one.tty && !one.detach);
    assert_eq!(one.env, ["A=1", "B"]);
    assert_eq!(one.command, ["ls", "-la", "-o", "json", "--", "--help"]);
    let two = exec("dockctl exec --user 1:2 -w /srv app -x");
    assert_eq!((two.user.as_str(), two.workdir.as_str()), ("1:2", "/srv"));
    assert_eq!(two.command, ["-x"]);
    for (line, proxy) in [
        ("dockctl attach app", true),
        ("dockctl attach --sig-proxy app", true),
        ("dockctl attach --sig-proxy=false app", false),
    ] {
        let Command::Attach(attach) = args(line, "").unwrap().command else { panic!() };
        assert_eq!(attach.sig_proxy, proxy, "{line}");
    }
}
