//! `dockctl`, the command line of dockctl for people and scripts: parses the arguments, runs the
//! command on one thread, and turns its result into an exit code. Data goes to stdout, everything else
//! to stderr; a reader that goes away is no failure.

mod args;
mod client;
mod commands;
mod config;
mod context;
mod endpoint;
mod error;
mod format;
mod keyring;
mod moment;
mod output;
mod pipe;
mod refs;
mod registry;
mod resolve;
mod resume;
mod retry;
mod select;
mod session;
mod talk;
mod terminal;
mod trust;
mod tunnel;
mod watch;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use args::{Agents, Args, Command, Container, Refused};
use commands::Ctx;
use config::Config;
use error::{Error, NOT_RUN, Result};
use output::{Term, table::Style};
use session::Session;

fn main() -> ExitCode {
    match run(std::env::args_os().collect()) {
        Ok(code) => code,
        Err(error) => {
            if let Some(failure) = error.told() {
                let term = Term::detect(std::env::args_os().any(|a| a == "--no-color"));
                let head = Style::Bad.paint("dockctl:", term.err && term.colors);
                term.notice(&format!("{head} {failure}"));
            }
            ExitCode::from(error.code())
        }
    }
}

fn run(words: Vec<OsString>) -> Result<ExitCode> {
    let path = args::config_path(&words).or_else(config::default_path);
    let config = path.as_deref().map(config::read).transpose()?.unwrap_or_default();
    let file = path.as_deref().unwrap_or(Path::new(""));
    let args = match args::parse(words, &config.defaults, file) {
        Ok(args) => args,
        Err(Refused::Help(error)) => {
            // Nobody reading it is no failure.
            let _ = error.print();
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1)));
        }
        Err(Refused::Mistake(error)) => return Err(error),
    };
    let term = Term::detect(args.global.no_color);
    if let Command::Completions(wanted) = &args.command {
        let mut script = Vec::new();
        clap_complete::generate(wanted.shell, &mut args::command(), "dockctl", &mut script);
        output::print(&script)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runs_a_program = args.command.runs_a_program();
    let done = execute(args, path, config, term);
    done.map_err(|error| if runs_a_program { error.with_code(NOT_RUN) } else { error })?;
    Ok(ExitCode::SUCCESS)
}

fn execute(args: Args, path: Option<PathBuf>, config: Config, term: Term) -> Result<()> {
    let session = Session::new(&args.global, path, config)?;
    let ctx = Ctx { session, term, format: args.global.format() };
    // One thread is enough for one connection, and is there at once.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    runtime.map_err(io_error)?.block_on(command(&ctx, args))
}

fn io_error(error: io::Error) -> Error {
    Error::new(error::Exit::Failed, format!("this machine gives no resources: {error}"))
}

async fn command(ctx: &Ctx, args: Args) -> Result<()> {
    match args.command {
        Command::Login(args) => commands::login::login(ctx, args).await,
        Command::Logout(args) => commands::login::logout(ctx, args.everywhere).await,
        Command::Whoami => commands::login::whoami(ctx).await,
        Command::Context(args) => commands::context::run(ctx, args).await,
        Command::Agents(Agents::Token(args)) => commands::tokens::run(ctx, args).await,
        Command::Agents(args) => commands::agents::run(ctx, args).await,
        Command::Users(args) => commands::users::run(ctx, args).await,
        Command::Tokens(args) => commands::api_tokens::run(ctx, args).await,
        Command::Roles => commands::users::roles(ctx),
        Command::Audit(args) => commands::audit::run(ctx, args).await,
        Command::Ps(args) => commands::ps::run(ctx, args).await,
        Command::Logs(args) => commands::logs::run(ctx, args).await,
        Command::Start(args) => commands::act::start(ctx, args).await,
        Command::Stop(args) => commands::act::stop(ctx, args).await,
        Command::Restart(args) => commands::act::restart(ctx, args).await,
        Command::Kill(args) => commands::act::kill(ctx, args).await,
        Command::Exec(args) => commands::exec::run(ctx, args).await,
        Command::Attach(args) => commands::attach::run(ctx, args).await,
        Command::Run(args) => commands::run::run(ctx, *args).await,
        Command::Create(args) => commands::run::create(ctx, *args).await,
        Command::Pause(refs) => commands::change::pause(ctx, refs).await,
        Command::Unpause(refs) => commands::change::unpause(ctx, refs).await,
        Command::Rm(args) => commands::change::rm(ctx, args).await,
        Command::Rename(args) => commands::change::rename(ctx, args).await,
        Command::Update(args) => commands::change::update(ctx, args).await,
        Command::Wait(refs) => commands::look::wait(ctx, refs).await,
        Command::Diff(args) => commands::look::diff(ctx, args).await,
        Command::Port(args) => commands::look::port(ctx, args).await,
        Command::Commit(args) => commands::change::commit(ctx, args).await,
        Command::Export(args) => commands::export::run(ctx, args).await,
        Command::Container(Container::Prune(args)) => commands::change::prune(ctx, args).await,
        // Read as its short verb.
        Command::Container(_) => Ok(()),
        Command::Inspect(args) => commands::inspect::run(ctx, args).await,
        Command::Cp(args) => commands::cp::run(ctx, args).await,
        Command::PortForward(args) => commands::port_forward::run(ctx, args).await,
        Command::Stats(args) => commands::stats::run(ctx, args).await,
        Command::Events(args) => commands::events::run(ctx, args).await,
        Command::Images(args) => commands::image::run(ctx, args).await,
        Command::Pull(args) => commands::image::pull::pull(ctx, args).await,
        Command::Push(args) => commands::image::pull::push(ctx, args).await,
        Command::Tag(args) => commands::image::tag(ctx, args).await,
        Command::Rmi(args) => commands::image::remove(ctx, args).await,
        Command::History(args) => commands::image::history::run(ctx, args).await,
        Command::Save(args) => commands::image::archive::save(ctx, args).await,
        Command::Load(args) => commands::image::archive::load(ctx, args).await,
        Command::Import(args) => commands::image::archive::import(ctx, args).await,
        Command::Build(args) => commands::image::build::run(ctx, *args).await,
        Command::Volumes(args) => commands::volumes::run(ctx, args).await,
        Command::Networks(args) => commands::networks::run(ctx, args).await,
        Command::System(args) => commands::disk::system(ctx, args).await,
        Command::Builder(args) => commands::disk::builder(ctx, args).await,
        Command::Top(top) => Box::pin(commands::top::run(ctx, &args.global, top)).await,
        Command::Version(args) => commands::system::version(ctx, args).await,
        Command::Ping(args) => commands::system::ping(ctx, args).await,
        Command::Info(args) => commands::system::info(ctx, args).await,
        Command::Docker(args) => commands::docker::run(ctx, args).await,
        Command::DockerSocket(args) => commands::docker::socket(ctx, args).await,
        // Answered before there was a connection to think of.
        Command::Completions(_) => Ok(()),
    }
}
