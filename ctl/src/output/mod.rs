//! How results are shown: data on stdout, everything else on stderr. Commands hand over messages and
//! rows; only this module knows of terminals, colours, JSON and YAML.

pub(crate) mod escape;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod printer;
pub(crate) mod progress;
pub(crate) mod spinner;
pub(crate) mod table;

use std::{
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
};

pub(crate) use escape::clean;

/// What stands at the other end of our outputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    /// Whether a person reads stdout.
    pub(crate) out: bool,
    /// Whether a person reads stderr.
    pub(crate) err: bool,
    /// Whether a person can answer a question.
    pub(crate) input: bool,
    /// Whether colours are welcome where a person reads.
    pub(crate) colors: bool,
}

impl Term {
    /// Looks at the three standard streams; `no_color` is the user's wish.
    pub(crate) fn detect(no_color: bool) -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let refused = no_color || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { out, err, input: io::stdin().is_terminal() && err, colors: !refused && !dumb }
    }

    /// Whether stdout gets colours.
    pub(crate) fn color(&self) -> bool {
        self.out && self.colors
    }

    /// How many columns and lines stdout's terminal has; None where there is none or it does not say.
    pub(crate) fn size(&self) -> Option<(usize, usize)> {
        let (width, height) = crossterm::terminal::size().ok().filter(|_| self.out)?;
        (width > 0 && height > 0).then_some((width.into(), height.into()))
    }

    /// Prints a line on stderr. Nobody reading it is no failure.
    pub(crate) fn notice(&self, text: &str) {
        // In one write: the printer's thread may be writing a container's lines there as well.
        let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
    }

    /// The same in place of what is being redrawn there.
    pub(crate) fn notice_over(&self, text: &str) {
        self.notice(&format!("{}{text}", if self.err { spinner::CLEAR } else { "" }));
    }

    /// Asks on stderr and reads one line from stdin; None at its end.
    pub(crate) fn ask(&self, question: &str) -> io::Result<Option<String>> {
        let mut err = io::stderr();
        write!(err, "{question}")?;
        err.flush()?;
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer)?;
        Ok((read > 0).then(|| answer.trim().to_owned()))
    }
}

/// How many columns and lines a terminal has; 80 and 24 where it does not say.
fn size(terminal: impl AsFd) -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(terminal).ok();
    let told = |size: Option<u16>, usual| size.filter(|n| *n > 0).map_or(usual, usize::from);
    (told(size.map(|size| size.ws_col), 80), told(size.map(|size| size.ws_row), 24))
}

/// How many columns a terminal has; 80 where it does not say.
fn columns(terminal: impl AsFd) -> usize {
    size(terminal).0
}

/// Writes all of a command's data on stdout at once.
pub(crate) fn print(data: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(data)?;
    out.flush()
}
