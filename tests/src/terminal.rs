//! Programs on a terminal of their own: run to their end by script(1), or steered key by key in a tmux
//! server that nobody else uses.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cli::{Dockctl, Output, output_of},
    process::wrapped,
    wait::{LONG, await_until},
    world::World,
};

impl Dockctl<'_> {
    /// Runs it on a terminal of 80 columns and 24 lines that types `input`, and gives what the terminal
    /// was sent. Standard error is not that terminal unless `errors`.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn on_a_terminal(
        &self,
        arguments: &[&str],
        input: &str,
        errors: bool,
    ) -> Result<Output> {
        let command = self.command(arguments)?;
        let mut line = String::from("stty cols 80 rows 24; exec");
        for word in std::iter::once(command.get_program()).chain(command.get_args()) {
            let word = word.to_str().context("a word in UTF-8")?;
            ensure!(!word.contains('\''), "{word} cannot be quoted");
            line.push_str(&format!(" '{word}'"));
        }
        if !errors {
            line.push_str(" 2>/dev/null");
        }
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &line, "/dev/null"]).env("TERM", "xterm");
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => script.env(key, value),
                None => script.env_remove(key),
            };
        }
        output_of(script, input).await
    }
}

/// A terminal of 80 columns and 24 lines with one program on it. Dropped, both end.
#[derive(Debug)]
pub struct Screen {
    server: String,
}

impl Screen {
    /// Starts a command on a terminal.
    ///
    /// # Errors
    /// When tmux refuses.
    pub async fn start(world: &World, command: &Command) -> Result<Self> {
        let screen = Self { server: world.prefix().to_owned() };
        let mut tmux = screen.tmux();
        tmux.args(["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"]);
        tmux.arg("env");
        for (key, value) in command.get_envs() {
            if let (Some(key), Some(value)) = (key.to_str(), value.and_then(|v| v.to_str())) {
                tmux.arg(format!("{key}={value}"));
            }
        }
        // What the terminal was left as can still be read when the program has ended.
        let script = "\"$@\"; echo; echo \"ended with $?\"; stty -a | grep -owE -e '-?(icanon|echo)'; exec cat";
        tmux.args(["sh", "-c", script, "sh"]);
        output_of(wrapped(tmux, &no_environment(command)), "").await?.done()?;
        Ok(screen)
    }

    /// Types keys, in tmux's names.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub async fn keys(&self, keys: &[&str]) -> Result<()> {
        let mut tmux = self.tmux();
        tmux.arg("send-keys").args(keys);
        output_of(tmux, "").await?.done()?;
        Ok(())
    }

    /// What the terminal shows.
    ///
    /// # Errors
    /// When it has gone.
    pub async fn text(&self) -> Result<String> {
        let mut tmux = self.tmux();
        tmux.args(["capture-pane", "-p"]);
        output_of(tmux, "").await?.done()
    }

    /// Waits until what it shows is as `wanted` says.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let found = await_until(what, LONG, async || {
            let text = self.text().await?;
            Ok(wanted(&text).then_some(text))
        })
        .await;
        match found {
            Ok(text) => Ok(text),
            Err(error) => bail!("{error:#}; the screen:\n{}", self.text().await?),
        }
    }

    /// The process that is on the terminal.
    ///
    /// # Errors
    /// When there is none.
    pub async fn pid(&self, program: &str) -> Result<String> {
        let mut tmux = self.tmux();
        tmux.args(["list-panes", "-F", "#{pane_pid}"]);
        let shell = output_of(tmux, "").await?.done()?.trim().to_owned();
        let mut ps = Command::new("ps");
        ps.args(["--ppid", &shell, "-o", "pid=,comm="]);
        let all = output_of(ps, "").await?.done()?;
        let line = all.lines().find(|line| line.ends_with(program)).context("it does not run")?;
        Ok(line.split_whitespace().next().context("no pid")?.to_owned())
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.server]);
        tmux
    }
}

/// The same program and arguments.
fn no_environment(command: &Command) -> Command {
    let mut bare = Command::new(command.get_program());
    bare.args(command.get_args());
    bare
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut tmux = self.tmux();
        // One that has ended by itself is no error.
        let _ = tmux.arg("kill-server").stderr(Stdio::null()).status();
    }
}
