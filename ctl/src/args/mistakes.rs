//! A command line that makes no sense, told as docker tells it: one sentence, how the command is used,
//! and where help is.

use std::{error::Error as _, ffi::OsString};

use clap::{
    Arg, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    error::{Error, NOT_RUN},
    output::{clean, human},
};

/// Docker's commands that have no twin here, since docker itself can be had on any host.
const DOCKERS_OWN: [&str; 16] = [
    "builder",
    "buildx",
    "checkpoint",
    "compose",
    "config",
    "context",
    "manifest",
    "node",
    "plugin",
    "scout",
    "search",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
];

/// Whether a word may be another one mistyped: two letters in a short one differ too much.
fn is_near(wrong: &str, near: &str) -> bool {
    strsim::damerau_levenshtein(wrong, near) <= if wrong.chars().count() > 4 { 2 } else { 1 }
}

/// What to say of a line that the parser refused.
pub(super) fn explain(error: &clap::Error, mut root: Command, words: &[OsString]) -> Error {
    let path = path(root.clone(), words);
    root.build();
    let mut leaf = root;
    for name in &path {
        if let Some(sub) = leaf.find_subcommand(name).cloned() {
            leaf = sub;
        }
    }
    let name = leaf.get_bin_name().unwrap_or("dockctl").to_owned();
    let (sentence, of_a_flag) = sentence(error, &leaf, &name, words);
    let usage = leaf.render_usage().to_string().replace("\n       ", "\n        ");
    let usage = usage.replacen("Usage: ", "Usage:  ", 1);
    let mut text = format!("{usage}\n\nSee '{name} --help'.");
    for (kind, wrong) in [
        (ContextKind::SuggestedArg, ContextKind::InvalidArg),
        (ContextKind::SuggestedSubcommand, ContextKind::InvalidSubcommand),
    ] {
        let wrong = strings(error, wrong);
        let is_near = |near: &&String| wrong.iter().any(|wrong| is_near(before_value(wrong), near));
        if let Some(near) = strings(error, kind).iter().find(is_near) {
            text.push_str(&format!("\nDid you mean {near}?"));
        }
    }
    if let [own] = strings(error, ContextKind::InvalidSubcommand).as_slice()
        && path.is_empty()
        && DOCKERS_OWN.contains(&own.as_str())
    {
        text.push_str(&format!("\ndocker's own, on any host: dockctl docker HOST -- {own} ..."));
    }
    let told = Error::usage(sentence).used(text);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.strip_prefix(&["container"]).unwrap_or(&path) {
        // Their other codes are the program's own.
        ["exec" | "attach"] => told.with_code(NOT_RUN),
        ["run" | "create"] if of_a_flag => told.with_code(NOT_RUN),
        _ => told,
    }
}

/// The subcommands that a line names.
fn path(root: Command, words: &[OsString]) -> Vec<String> {
    let mut path = Vec::new();
    if let Ok(matches) = root.ignore_errors(true).try_get_matches_from(words) {
        let mut at = &matches;
        while let Some((name, inner)) = at.subcommand() {
            path.push(name.to_owned());
            at = inner;
        }
    }
    path
}

/// What is wrong, and whether a flag is.
fn sentence(error: &clap::Error, leaf: &Command, name: &str, words: &[OsString]) -> (String, bool) {
    let wrong = strings(error, ContextKind::InvalidArg);
    let first = wrong.first().map(String::as_str).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if first.starts_with("--") => {
            (format!("unknown flag: {}", before_value(first)), true)
        }
        ErrorKind::UnknownArgument if first.starts_with('-') => {
            let letter = first.trim_start_matches('-').chars().next().unwrap_or('-');
            (format!("unknown shorthand flag: '{letter}' in {}", cluster(words, letter)), true)
        }
        ErrorKind::UnknownArgument => (format!("'{name}' {}", wanted(leaf, 0)), false),
        ErrorKind::InvalidSubcommand => {
            let unknown = strings(error, ContextKind::InvalidSubcommand);
            (format!("unknown command: {name} {}", unknown.join(" ")), false)
        }
        ErrorKind::MissingRequiredArgument => {
            let flags = wrong.iter().filter(|one| one.starts_with("--"));
            let flags: Vec<_> = flags.map(|f| format!("\"{}\"", &before_value(f)[2..])).collect();
            match flags.is_empty() {
                true => (format!("'{name}' {}", wanted(leaf, 1)), false),
                false => (format!("required flag(s) {} not set", flags.join(", ")), true),
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => value(error, leaf, first, words),
        _ => {
            let text = clean_lines(&error.to_string());
            (text.trim_start_matches("error: ").to_owned(), true)
        }
    }
}

fn value(error: &clap::Error, leaf: &Command, wrong: &str, words: &[OsString]) -> (String, bool) {
    let values = strings(error, ContextKind::InvalidValue);
    let given = values.first().map(String::as_str).unwrap_or_default();
    let why = error.source().map(|why| clean(&why.to_string()));
    let good = strings(error, ContextKind::ValidValue);
    let Some(arg) = flag(leaf, wrong) else {
        let why = why.unwrap_or_default();
        return (format!("invalid argument \"{given}\" for {wrong}: {why}"), false);
    };
    let long = arg.get_long().unwrap_or_default();
    let short = arg.get_short();
    if given.is_empty() && why.is_none() {
        let is_long = |w: &OsString| w.to_str() == Some(before_value(wrong));
        let text = match short {
            Some(letter) if !words.iter().any(is_long) => {
                format!("flag needs an argument: '{letter}' in {}", cluster(words, letter))
            }
            _ => format!("flag needs an argument: --{long}"),
        };
        return (text, true);
    }
    let called = short.map_or_else(String::new, |letter| format!("-{letter}, ")) + "--" + long;
    let why = why.unwrap_or_else(|| format!("must be one of {}", good.join(", ")));
    (format!("invalid argument \"{given}\" for \"{called}\" flag: {why}"), true)
}

/// The flag that clap calls "--timeout <SECONDS>".
fn flag<'c>(leaf: &'c Command, shown: &str) -> Option<&'c Arg> {
    let name = before_value(shown);
    leaf.get_arguments().find(|arg| match name.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg.get_short().is_some_and(|short| name == format!("-{short}")),
    })
}

/// A flag without the value behind it.
fn before_value(shown: &str) -> &str {
    shown.split([' ', '=', '[']).next().unwrap_or(shown)
}

/// The word in which a letter is a flag, without the flags before it.
fn cluster(words: &[OsString], letter: char) -> String {
    let rest = |word: &str| {
        let letters = word.strip_prefix('-').filter(|letters| !letters.starts_with('-'))?;
        letters.find(letter).map(|at| format!("-{}", &letters[at..]))
    };
    let found = words.iter().filter_map(|w| w.to_str()).find_map(rest);
    found.map_or_else(|| format!("-{letter}"), |found| clean(&found))
}

/// How many arguments a command takes, in docker's words; at least `least`, which flags can be instead of.
fn wanted(leaf: &Command, least: usize) -> String {
    let (mut min, mut max) = (0_usize, 0_usize);
    for arg in leaf.get_positionals() {
        let range = arg.get_num_args().unwrap_or_else(|| 1.into());
        if arg.is_required_set() {
            min = min.saturating_add(range.min_values().max(1));
        }
        max = max.saturating_add(range.max_values().max(1));
    }
    let min = min.max(least);
    let count = |n: usize| human::counted(n, "argument");
    match (min, max) {
        (_, 0) => "accepts no arguments".to_owned(),
        (min, max) if min == max => format!("requires {}", count(min)),
        (0, max) => format!("requires at most {}", count(max)),
        (min, max) if max > 100 => format!("requires at least {}", count(min)),
        (min, max) => format!("requires at least {min} and at most {}", count(max)),
    }
}

fn strings(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(one)) => vec![clean(one)],
        Some(ContextValue::Strings(all)) => all.iter().map(|one| clean(one)).collect(),
        _ => Vec::new(),
    }
}

/// The first line of a text of clap's.
fn clean_lines(text: &str) -> String {
    clean(text.lines().next().unwrap_or_default())
}
