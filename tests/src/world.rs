//! One scenario's world: a directory of its own, a runtime, a limit, and what is kept on failure.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use tokio::{runtime::Builder, time::timeout};

use crate::{docker::remove_containers, rounds::rounds};

/// Ends what hangs, well before nextest would, so that the directory is named: in `make test` and in
/// `make chaos`.
const LIMITS: [Duration; 2] = [Duration::from_secs(270), Duration::from_secs(2 * 60 * 60 - 60)];

/// Where one scenario lives. Everything that it starts is a value in the scenario's body and ends with it.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
    name: String,
    prefix: String,
    counter: AtomicU32,
    docker: AtomicBool,
}

impl World {
    /// A new directory in the scenario's own, for one component.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.join(format!("{name}-{n}"));
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Where the logs of the scenario's processes are.
    pub fn logs(&self) -> &Path {
        &self.dir
    }

    /// Begins the name of everything that the scenario makes in a shared place.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The scenario's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Notes that there may be containers to remove.
    pub(crate) fn uses_docker(&self) {
        self.docker.store(true, Ordering::Relaxed);
    }

    /// A command that runs one of the project's binaries, with no setting of the person's own.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn binary(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(binary(name)?);
        clean_environment(&mut command);
        // Colours, a pager or a login of the person's own have no place here.
        command.env("HOME", &self.dir).env("NO_COLOR", "1");
        Ok(command)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.docker.load(Ordering::Relaxed) {
            remove_containers(&self.prefix);
        }
    }
}

/// Takes every DOCKCTL_ variable, and the way to the person's keyring, out of a command's environment.
pub(crate) fn clean_environment(command: &mut Command) {
    command.env_remove("DBUS_SESSION_BUS_ADDRESS").env_remove("XDG_RUNTIME_DIR");
    for (key, _) in env::vars_os() {
        if key.to_string_lossy().starts_with("DOCKCTL_") {
            command.env_remove(key);
        }
    }
}

/// The path of a binary of the same build profile as this test.
pub(crate) fn binary(name: &str) -> Result<PathBuf> {
    let path = profile_dir()?.join(name);
    path.is_file()
        .then_some(path)
        .with_context(|| format!("{name} is not built: run `cargo build --workspace --bins`"))
}

/// `target/<profile>`: test executables are in its `deps`.
fn profile_dir() -> Result<PathBuf> {
    let test = env::current_exe()?;
    test.ancestors().nth(2).map(Path::to_owned).context("the test has no target directory")
}

/// Runs one scenario. On an error, a panic or at its limit the scenario's directory (logs, data) is
/// kept under `target/e2e-failed`, and the panic names it.
///
/// # Panics
/// When the scenario fails.
#[allow(clippy::expect_used, clippy::panic)] // this is how a test fails
pub fn scenario(body: impl AsyncFnOnce(&World) -> Result<()>) {
    let name = thread::current().name().unwrap_or("scenario").replace("::", "-");
    let dir =
        tempfile::Builder::new().prefix("dockctl-e2e-").tempdir().expect("a directory in /tmp");
    let prefix = format!("dt{}", std::process::id());
    let world = World {
        dir: dir.path().to_owned(),
        name,
        prefix,
        counter: AtomicU32::new(0),
        docker: AtomicBool::new(false),
    };
    let runtime =
        Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");

    let [small, full] = LIMITS;
    let limit = rounds(small, full);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            timeout(limit, body(&world))
                .await
                .unwrap_or_else(|_| Err(anyhow!("the scenario did not end within {limit:?}")))
        })
    }));
    runtime.shutdown_timeout(Duration::from_secs(1));

    if matches!(outcome, Ok(Ok(()))) {
        return;
    }
    let kept = keep(&dir.keep(), &world.name);
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:#}\n\nlogs and data are kept in {}", kept.display()),
        Err(panic) => {
            eprintln!("logs and data are kept in {}", kept.display());
            resume_unwind(panic)
        }
    }
}

/// Moves a failed scenario's directory to where it is looked for; stays where it is if that fails.
fn keep(dir: &Path, name: &str) -> PathBuf {
    let moved = || -> Result<PathBuf> {
        let failed = profile_dir()?.parent().context("no target directory")?.join("e2e-failed");
        fs::create_dir_all(&failed)?;
        let to = failed.join(format!("{name}-{}", std::process::id()));
        // /tmp may be another file system.
        let status = Command::new("mv").arg(dir).arg(&to).status()?;
        status.success().then_some(to).context("mv failed")
    };
    moved().unwrap_or_else(|_| dir.to_owned())
}
