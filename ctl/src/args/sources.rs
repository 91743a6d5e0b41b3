//! Where a flag's value comes from when it is not on the command line: a DOCKCTL_… variable or the
//! configuration file's `[defaults]`. The flags that every command has, and the few others that only
//! change how something looks, have one name in all commands (DOCKCTL_OUTPUT, `output`). Any other flag
//! has the name of its command before its own (DOCKCTL_PS_ALL, `[defaults.ps] all`): what is meant for one
//! verb must not come true in another (`all` makes `system prune` remove every unused image). What
//! selects that which a changing verb works on stands on the line or not at all.

use std::collections::HashSet;

use clap::{Arg, ArgAction, Command, builder::BoolishValueParser};
use toml::{Table, Value};

/// Flags that do no harm in any command that has them.
const HARMLESS: [&str; 7] =
    ["detach-keys", "no-trunc", "parallel", "raw", "tail", "timestamps", "username"];

/// Docker's short names for verbs of a noun: defaults written for one hold for the other.
const SHORT: [(&str, &str, &str); 3] =
    [("container", "ls", "ps"), ("images", "ls", "images"), ("images", "rm", "rmi")];

/// Gives every flag its variable and its default. Fails with a sentence where the file has a default for
/// what is no flag, or for a flag that can have none.
pub(super) fn with_sources(root: Command, defaults: &Table) -> Result<Command, String> {
    for (key, value) in defaults {
        match value {
            Value::Table(table) => check(&root, table, key)?,
            _ if is_shared(&root, key) => {}
            _ if is_flag(&root, key) => {
                return Err(format!(
                    "[defaults] has \"{key}\", which not every command means alike: write it in \
                     the table of the command it is for, such as [defaults.ps]"
                ));
            }
            _ => return Err(format!("[defaults] has \"{key}\", which is no flag")),
        }
    }
    let globals: Vec<String> =
        root.get_arguments().filter_map(Arg::get_long).map(str::to_owned).collect();
    let sources = Sources { defaults, globals, variables: variables() };
    Ok(apply(root, &sources, None, &[PREFIX.to_owned()]))
}

/// Whether a flag has one meaning, which changes nothing on a host.
fn is_shared(root: &Command, long: &str) -> bool {
    has(root, long) || HARMLESS.contains(&long)
}

fn is_flag(command: &Command, long: &str) -> bool {
    has(command, long) || command.get_subcommands().any(|sub| is_flag(sub, long))
}

fn has(command: &Command, long: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some(long))
}

/// Looks through the table of a command.
fn check(within: &Command, table: &Table, path: &str) -> Result<(), String> {
    let name = path.rsplit('.').next().unwrap_or(path);
    let Some(command) = within.find_subcommand(name) else {
        return Err(format!("[defaults] has the table \"{path}\", which is no command"));
    };
    for (key, value) in table {
        match value {
            Value::Table(inner) => check(command, inner, &format!("{path}.{key}"))?,
            _ if !has(command, key) => {
                return Err(format!("[defaults.{path}] has \"{key}\", which is no flag of it"));
            }
            _ if is_never_assumed(key, has(command, "yes")) => {
                return Err(format!(
                    "[defaults.{path}] has \"{key}\", which must be said on the command line"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a flag selects what a verb works on that `asks` before.
fn is_never_assumed(long: &str, asks: bool) -> bool {
    asks && matches!(long, "label" | "on")
}

/// How the names of variables begin.
const PREFIX: &str = "DOCKCTL_";

/// The variables that may give a flag its value. One that is set to nothing counts as one that is not set.
fn variables() -> HashSet<String> {
    let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    let names = set.filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| name.starts_with(PREFIX)).collect()
}

struct Sources<'t> {
    defaults: &'t Table,
    /// The flags of every command.
    globals: Vec<String>,
    variables: HashSet<String>,
}

/// `own` is the command's table, none for the root; its variables begin with one of the `prefixes`.
fn apply(
    command: Command,
    sources: &Sources<'_>,
    own: Option<&Table>,
    prefixes: &[String],
) -> Command {
    let is_root = own.is_none();
    let noun = command.get_name().to_owned();
    let asks = has(&command, "yes");
    let command = command.mut_args(|arg| with_source(arg, sources, own, prefixes, asks));
    command.mut_subcommands(|sub| {
        let short = short(&noun, sub.get_name());
        let within = if is_root { Some(sources.defaults) } else { own };
        let written = within.and_then(|within| table(within, &sub));
        let shorts = || short.and_then(|short| sources.defaults.get(short)?.as_table());
        let own = written.or_else(shorts).unwrap_or(&EMPTY);
        let long = prefixes.iter().map(|prefix| format!("{prefix}{}_", variable(sub.get_name())));
        let short = short.map(|short| format!("{PREFIX}{}_", variable(short)));
        let prefixes: Vec<String> = long.chain(short).collect();
        apply(sub, sources, Some(own), &prefixes)
    })
}

/// A name as a variable's is written.
fn variable(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

/// For commands that have no table.
static EMPTY: std::sync::LazyLock<Table> = std::sync::LazyLock::new(Table::new);

/// The table of a command, under any of its names.
fn table<'t>(within: &'t Table, command: &Command) -> Option<&'t Table> {
    let mut names = std::iter::once(command.get_name()).chain(command.get_all_aliases());
    names.find_map(|name| within.get(name).and_then(Value::as_table))
}

/// The short name of a noun's verb.
fn short<'n>(noun: &str, verb: &'n str) -> Option<&'n str> {
    let known = SHORT.iter().find(|(n, v, _)| (*n, *v) == (noun, verb)).map(|(.., short)| *short);
    // Which has no short name, and means something else in each.
    let has_one = matches!(noun, "container" | "images") && verb != "prune";
    known.or_else(|| has_one.then_some(verb))
}

fn with_source(
    mut arg: Arg,
    sources: &Sources<'_>,
    own: Option<&Table>,
    prefixes: &[String],
    asks: bool,
) -> Arg {
    let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
    if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
        return arg;
    }
    // A command's own flag that stands before a global one of its name means something else: what
    // `save --output` writes is no format.
    let is_global = sources.globals.contains(&long);
    let shared = if is_global { arg.is_global_set() } else { HARMLESS.contains(&long.as_str()) };
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        arg = arg.value_parser(BoolishValueParser::new());
    }
    if !sources.variables.is_empty() {
        let name = variable(&long);
        let own = prefixes.iter().filter(|_| !is_never_assumed(&long, asks));
        let own = own.map(|prefix| format!("{prefix}{name}"));
        let mut names = own.chain(shared.then(|| format!("{PREFIX}{name}")));
        if let Some(name) = names.find(|name| sources.variables.contains(name)) {
            // Hidden, since help would otherwise print the variables' values, a token among them.
            arg = arg.env(name).hide_env(true);
        }
    }
    let own = own.and_then(|own| own.get(&long));
    match own.or_else(|| sources.defaults.get(&long).filter(|_| shared)) {
        None | Some(Value::Table(_)) => arg,
        Some(Value::Array(values)) => {
            arg.default_values(values.iter().map(text).collect::<Vec<_>>())
        }
        Some(value) => arg.default_value(text(value)),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
