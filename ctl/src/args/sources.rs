//! Where a flag's value comes from when it is not on the command line: a DOCKCTL_… variable or the
//! configuration file's `[defaults]`. Both are for the flags that every command has, and for the few
//! others that only change how something looks. Any other flag has a default only in the table of its
//! own command, `[defaults.ps] all = true`: what is meant for one verb must not come true in another
//! (`all` makes `system prune` remove every unused image). What answers a question in advance, or says
//! what a changing verb works on, stands on the line or not at all.

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
    Ok(apply(root, &Tables { defaults, globals }, None))
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
            _ if is_never_assumed(command, key) => {
                return Err(format!(
                    "[defaults.{path}] has \"{key}\", which must be said on the command line"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a flag answers a question, or selects what a verb that asks works on.
fn is_never_assumed(command: &Command, long: &str) -> bool {
    matches!(long, "yes" | "force") || matches!(long, "label" | "on") && has(command, "yes")
}

struct Tables<'t> {
    defaults: &'t Table,
    /// The flags of every command.
    globals: Vec<String>,
}

fn apply(command: Command, tables: &Tables<'_>, own: Option<&Table>) -> Command {
    let is_root = own.is_none();
    let noun = command.get_name().to_owned();
    let command = command.mut_args(|arg| with_source(arg, tables, own));
    command.mut_subcommands(|sub| {
        let within = if is_root { Some(tables.defaults) } else { own };
        let written = within.and_then(|within| table(within, &sub));
        let own = match written {
            Some(own) => own,
            None if is_root => &EMPTY,
            None => short(tables.defaults, &noun, sub.get_name()).unwrap_or(&EMPTY),
        };
        apply(sub, tables, Some(own))
    })
}

/// For commands that have no table.
static EMPTY: std::sync::LazyLock<Table> = std::sync::LazyLock::new(Table::new);

/// The table of a command, under any of its names.
fn table<'t>(within: &'t Table, command: &Command) -> Option<&'t Table> {
    let mut names = std::iter::once(command.get_name()).chain(command.get_all_aliases());
    names.find_map(|name| within.get(name).and_then(Value::as_table))
}

/// The table of the short name of a noun's verb.
fn short<'t>(defaults: &'t Table, noun: &str, verb: &str) -> Option<&'t Table> {
    if !matches!(noun, "container" | "images") {
        return None;
    }
    let of =
        SHORT.iter().find(|(n, v, _)| (*n, *v) == (noun, verb)).map_or(verb, |(.., short)| short);
    defaults.get(of).and_then(Value::as_table)
}

fn with_source(mut arg: Arg, tables: &Tables<'_>, own: Option<&Table>) -> Arg {
    let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
    if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
        return arg;
    }
    // A command's own flag that stands before a global one of its name means something else: what
    // `save --output` writes is no format.
    let is_global = tables.globals.contains(&long);
    let shared = if is_global { arg.is_global_set() } else { HARMLESS.contains(&long.as_str()) };
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        arg = arg.value_parser(BoolishValueParser::new());
    }
    if shared {
        let variable = format!("DOCKCTL_{}", long.to_uppercase().replace('-', "_"));
        // One that is set to nothing counts as one that is not set.
        if std::env::var_os(&variable).is_some_and(|value| !value.is_empty()) {
            // Hidden, since help would otherwise print the variables' values, a token among them.
            arg = arg.env(variable).hide_env(true);
        }
    }
    let own = own.and_then(|own| own.get(&long));
    match own.or_else(|| tables.defaults.get(&long).filter(|_| shared)) {
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
