//! Flags that are on or off, as docker takes them: `--rm` and also `--rm=false`, the last one counting.

use clap::{ArgAction, Command};

/// Lets every flag that takes no value take one after "=". Help is printed of the tree before this, which
/// shows the flags as people write them.
pub(super) fn with_values(command: Command) -> Command {
    let command = command.args_override_self(true).mut_args(|arg| {
        if !matches!(arg.get_action(), ArgAction::SetTrue) {
            return arg;
        }
        let set = !arg.get_default_values().is_empty();
        let arg = arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(boolean);
        if set { arg } else { arg.default_value("false") }
    });
    command.mut_subcommands(with_values)
}

/// On or off, in the words that docker takes, and those that variables have.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" | "yes" | "on" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" | "no" | "off" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}
