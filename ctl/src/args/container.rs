//! `container VERB`: docker's long way to write its short verbs.

use super::{
    Command, Kill, Logs, Many, Ps, Refs, Stats, Stop, Top, containers, copy, exec, images::Pruning,
    inspect, run,
};

/// `container`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Container {
    /// Attach this terminal to a container's main process.
    Attach(exec::Attach),
    /// Make an image of a container.
    Commit(containers::Commit),
    /// Copy files between this machine and containers, or between containers.
    Cp(copy::Cp),
    /// Make a container.
    Create(Box<run::Create>),
    /// Show what a container has changed in its file system.
    Diff(containers::Diff),
    /// Run a command in a container.
    Exec(exec::Exec),
    /// Write a container's file system as a tar archive.
    Export(containers::Export),
    /// Show all that the engine knows of containers.
    Inspect(inspect::Inspect),
    /// Send a signal to containers.
    Kill(Kill),
    /// Show the logs of containers.
    Logs(Logs),
    /// List containers.
    #[command(visible_aliases = ["list", "ps"])]
    Ls(Ps),
    /// Suspend all processes of containers.
    Pause(Many),
    /// Show where the ports of a container are published.
    Port(containers::Port),
    /// Remove all stopped containers of a host.
    Prune(Pruning),
    /// Rename a container.
    Rename(containers::Rename),
    /// Restart containers.
    Restart(Stop),
    /// Remove containers.
    #[command(visible_alias = "remove")]
    Rm(containers::Rm),
    /// Make a container and run it.
    Run(Box<run::Run>),
    /// Start containers.
    Start(containers::Start),
    /// Watch the resource use of containers.
    Stats(Stats),
    /// Stop containers.
    Stop(Stop),
    /// List the processes of a container.
    Top(Top),
    /// Let the processes of paused containers go on.
    Unpause(Many),
    /// Change the limits of containers.
    Update(containers::Update),
    /// Wait until containers end, and print their exit codes.
    Wait(Refs),
}

impl Container {
    /// The short verb that does the same; `Prune` has none, and is itself.
    pub(super) fn short(self) -> Command {
        match self {
            Self::Attach(args) => Command::Attach(args),
            Self::Commit(args) => Command::Commit(args),
            Self::Cp(args) => Command::Cp(args),
            Self::Create(args) => Command::Create(args),
            Self::Diff(args) => Command::Diff(args),
            Self::Exec(args) => Command::Exec(args),
            Self::Export(args) => Command::Export(args),
            Self::Inspect(args) => Command::Inspect(args),
            Self::Kill(args) => Command::Kill(args),
            Self::Logs(args) => Command::Logs(args),
            Self::Ls(args) => Command::Ps(args),
            Self::Pause(args) => Command::Pause(args),
            Self::Port(args) => Command::Port(args),
            Self::Rename(args) => Command::Rename(args),
            Self::Restart(args) => Command::Restart(args),
            Self::Rm(args) => Command::Rm(args),
            Self::Run(args) => Command::Run(args),
            Self::Start(args) => Command::Start(args),
            Self::Stats(args) => Command::Stats(args),
            Self::Stop(args) => Command::Stop(args),
            Self::Top(args) => Command::Top(args),
            Self::Unpause(args) => Command::Unpause(args),
            Self::Update(args) => Command::Update(args),
            Self::Wait(args) => Command::Wait(args),
            Self::Prune(args) => Command::Container(Self::Prune(args)),
        }
    }
}
