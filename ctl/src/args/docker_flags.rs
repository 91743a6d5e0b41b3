//! Docker's flags and ours: each that `docker COMMAND --help` lists is there, with its letter and its kind,
//! or stands here with the reason why it is not.

use clap::{Command, CommandFactory as _};

use super::Args;

/// What is not docker's here, and why: commands, flags.
const OTHER: &[(&str, &str, &str)] = &[
    (
        "pull, push, build, image pull, image push, image build",
        "--disable-content-trust",
        "no image is verified here",
    ),
    (
        "run, create",
        "--use-api-socket",
        "is experimental: it gives the container the engine's socket",
    ),
    ("rm", "--link", "-l selects by labels here, as with every verb"),
    ("login", "--password", "a password on a command line is everybody's to read"),
    ("ps, container ls", "--latest", "-l selects by labels here"),
    ("network create", "--ipv4", "is not built yet"),
    ("network connect", "--gw-priority", "is not built yet"),
    ("network inspect", "--verbose", "is of swarms"),
];

fn find<'c>(root: &'c Command, path: &str) -> Option<&'c Command> {
    path.split(' ').try_fold(root, |at, name| at.find_subcommand(name))
}

#[test]
fn every_flag_of_docker_is_there_or_has_a_reason_not_to_be() {
    let mut root = Args::command();
    root.build();
    let (mut missing, mut needless) = (Vec::new(), Vec::new());
    assert!(OTHER.iter().all(|(.., reason)| !reason.is_empty()));
    for line in include_str!("docker-flags.txt").lines().filter(|line| !line.starts_with('#')) {
        let (path, flags) = line.split_once(':').unwrap();
        let command = find(&root, path).unwrap_or_else(|| panic!("there is no {path}"));
        for flag in flags.split_whitespace() {
            let is_switch = flag.ends_with('!');
            let (long, letter) = match flag.trim_end_matches('!').split_once(",-") {
                Some((long, letter)) => (long, letter.chars().next()),
                None => (flag.trim_end_matches('!'), None),
            };
            let is_it = |arg: &&clap::Arg| {
                arg.get_long_and_visible_aliases()
                    .into_iter()
                    .flatten()
                    .chain(arg.get_aliases().into_iter().flatten())
                    .any(|name| name == &long[2..])
            };
            let fits = |arg: &clap::Arg| {
                let short = letter.is_none_or(|letter| {
                    arg.get_short_and_visible_aliases().is_some_and(|all| all.contains(&letter))
                });
                let value = arg.get_num_args().is_some_and(|n| n.min_values() > 0);
                short && value != is_switch
            };
            let known = |(of, what, _): &(&str, &str, &str)| {
                of.split(", ").any(|of| of == path) && what.split(' ').any(|w| w == long)
            };
            let is_there = command.get_arguments().find(is_it).is_some_and(fits);
            let excused = OTHER.iter().filter(|other| known(other)).count();
            match (is_there, excused) {
                (false, 0) => missing.push(format!("{path} {flag}")),
                (true, 1..) => needless.push(format!("{path} {flag}")),
                _ => {}
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    // The list of excuses only shrinks.
    assert!(needless.is_empty(), "these are there, and excused for not being: {needless:#?}");
}
