//! Docker's flags and ours: each that `docker COMMAND --help` lists is there, with its letter and its kind,
//! or stands here with the reason why it is not.

use clap::{Command, CommandFactory as _};

use super::Args;

/// What is not docker's here, and why: commands ("*" for all), flags.
const OTHER: &[(&str, &str, &str)] = &[
    ("*", "--disable-content-trust", "no image is verified here"),
    ("*", "--format", "is not built yet"),
    (
        "run, create",
        "--use-api-socket",
        "is experimental: it gives the container the engine's socket",
    ),
    ("rm", "--link", "-l selects by labels here, as with every verb"),
    ("volume create, network create", "--opt", "-o is how results are printed"),
    ("login", "--password", "a password on a command line is everybody's to read"),
    ("events, system events, images, image ls, ps, container ls", "--filter", "is not built yet"),
    ("images, image ls", "--all --digests --no-trunc --quiet", "is not built yet"),
    ("ps, container ls", "--last --size", "is not built yet"),
    ("ps, container ls", "--latest", "-l selects by labels here"),
    ("stats", "--all --no-trunc", "is not built yet"),
    ("logs", "--details", "is not built yet"),
    ("push", "--all-tags", "is not built yet"),
    ("history", "--human", "is not built yet"),
    (
        "build",
        "--cache-from --cgroup-parent --compress --cpu-period --cpu-quota --cpu-shares --cpuset-cpus \
         --cpuset-mems --force-rm --iidfile --isolation --memory --memory-swap --rm --security-opt \
         --shm-size --ulimit",
        "is not built yet",
    ),
    ("builder prune", "--keep-storage", "is not built yet"),
    ("network create", "--config-from --config-only --ingress --scope", "is of swarms"),
    ("network create", "--aux-address --ipam-driver --ipam-opt --ipv4", "is not built yet"),
    ("network connect", "--driver-opt --gw-priority --link --link-local-ip", "is not built yet"),
    ("network inspect", "--verbose", "is of swarms"),
];

fn find<'c>(root: &'c Command, path: &str) -> Option<&'c Command> {
    path.split(' ').try_fold(root, |at, name| at.find_subcommand(name))
}

#[test]
fn every_flag_of_docker_is_there_or_has_a_reason_not_to_be() {
    let mut root = Args::command();
    root.build();
    let mut missing = Vec::new();
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
                (*of == "*" || of.split(", ").any(|of| of == path))
                    && what.split(' ').any(|w| w == long)
            };
            if !command.get_arguments().find(is_it).is_some_and(fits) && !OTHER.iter().any(known) {
                missing.push(format!("{path} {flag}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
