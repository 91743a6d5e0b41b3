//! The commands, one module a noun, each from arguments to printed result over [`Ctx`].

pub(crate) mod act;
pub(crate) mod agents;
pub(crate) mod api_tokens;
pub(crate) mod attach;
pub(crate) mod audit;
pub(crate) mod change;
pub(crate) mod context;
pub(crate) mod cp;
mod df;
pub(crate) mod disk;
pub(crate) mod docker;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod export;
mod fleet_filter;
mod host;
pub(crate) mod image;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod login;
pub(crate) mod logs;
mod logs_many;
pub(crate) mod look;
mod many;
pub(crate) mod networks;
pub(crate) mod port_forward;
pub(crate) mod ps;
pub(crate) mod run;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod tokens;
pub(crate) mod top;
pub(crate) mod users;
pub(crate) mod volumes;

use std::future::Future;

use dockctl_api::v1::Notice;
use prost::Message;

use crate::{
    args::Format,
    error::{Error, Exit, Result},
    output::{self, Term, clean, escape::Sanitizer, json, spinner},
    refs::Ref,
    resolve::{self, Target},
    session::Session,
};

/// References worked on at the same time.
const AT_ONCE: usize = 16;

/// What every command gets.
pub(crate) struct Ctx {
    /// The way to the controller.
    pub(crate) session: Session,
    /// The terminal.
    pub(crate) term: Term,
    /// How to print.
    pub(crate) format: Format,
}

impl Ctx {
    /// Waits, with a sign of life on a terminal.
    fn wait<T>(&self, what: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
        spinner::wait(self.term, what, &Vec::new, Box::pin(work))
    }

    /// Finds what a reference stands for.
    async fn find(&self, wanted: &Ref) -> Result<Target> {
        self.wait("looking for the container", resolve::resolve(&self.session, wanted)).await
    }

    /// Prints one message, as `text` or in the format that was asked for.
    fn show(
        &self,
        name: &str,
        message: &impl Message,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        self.show_value(|| json::value(name, message), text)
    }

    /// Prints a list, as `text` or in the format that was asked for.
    fn show_list<M: Message>(
        &self,
        name: &str,
        list: &[M],
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        self.show_value(|| json::values(name, list), text)
    }

    fn show_value(
        &self,
        value: impl FnOnce() -> Result<serde_json::Value>,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        if self.format == Format::Table {
            return Ok(output::print(text().as_bytes())?);
        }
        self.print_document(&value()?)
    }

    /// Prints a document in the format that was asked for.
    fn print_document(&self, value: &serde_json::Value) -> Result<()> {
        let text = json::document(self.format, value)?;
        Ok(output::print(self.safe(text).as_bytes())?)
    }

    /// Prints what a template has made.
    fn print_made(&self, text: String) -> Result<()> {
        Ok(output::print(self.safe(text).as_bytes())?)
    }

    /// JSON or YAML as it may be shown to a person: JSON leaves some control characters as they are.
    fn safe(&self, text: String) -> String {
        if !self.term.out {
            return text;
        }
        let mut shown = Vec::with_capacity(text.len());
        Sanitizer::default().push(text.as_bytes(), &mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Asks before something that cannot be undone.
    fn confirm(&self, yes: bool, question: &str) -> Result<()> {
        if yes {
            return Ok(());
        }
        if !self.term.input {
            return Err(Error::usage("this cannot be undone, and nobody is there to be asked")
                .hint("pass -y to do it without a question"));
        }
        match self.term.ask(&format!("{question} [y/N] "))?.as_deref() {
            Some("y" | "Y" | "yes") => Ok(()),
            _ => Err(Error::new(Exit::Failed, "nothing was changed")),
        }
    }

    /// Tells a stream's notice on stderr.
    fn tell(&self, agent: &str, notice: &Notice) {
        let about = if agent.is_empty() { String::new() } else { format!("{}: ", clean(agent)) };
        self.term.notice(&format!("{about}{}", clean(&notice.message)));
    }
}

/// `key=value` into its parts.
fn label(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("\"{}\" is no label: write key=value", clean(text)))),
    }
}

/// Labels as people read them, in the order of their keys.
fn labels(labels: &std::collections::HashMap<String, String>) -> String {
    let mut all: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    all.sort();
    all.join(",")
}
