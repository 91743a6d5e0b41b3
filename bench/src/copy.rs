//! 1 GB out of a container and into it: `docker cp` at the engine's socket and `dockctl cp`, one after the
//! other in every round, and what memory the daemons need meanwhile. MB are of the archive.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::{
    engine::PREFIX,
    harness::{AGENT, Bench, Fleet, timed},
    measure::Series,
    report::{Figure, Goal},
};

const NAME: &str = "copy";
/// What is copied, of the speed of `docker cp`.
const SPEED: Goal = Goal::AtLeast(0.8);
/// What the daemons may need, MiB.
const MEMORY: Goal = Goal::AtMost(64.0);

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let megabytes = bench.pick(1_000, 64);
    let script = format!("mkdir /in && head -c {megabytes}000000 /dev/urandom > /large");
    let id = bench.engine.run_to_end(NAME, &script).await?;
    let fleet = Fleet::start(bench).await?;
    let config = fleet.controller.dockctl_login(bench).await?;
    let docker = || (bench.docker(), id.clone());
    let dockctl = || -> Result<(Command, String)> {
        let mut command = bench.program("dockctl")?;
        command.env("DOCKCTL_CONFIG", &config);
        Ok((command, format!("{AGENT}/{PREFIX}{NAME}")))
    };

    // Not timed: the same archive comes both ways, and is what goes back.
    let archive = bench.dir.join("copy.tar");
    out(docker(), Some(&archive)).await?;
    let other = bench.dir.join("other.tar");
    out(dockctl()?, Some(&other)).await?;
    ensure!(same(&archive, &other).await?, "dockctl cp and docker cp gave different archives");
    std::fs::remove_file(other)?;

    let speed = |seconds: f64| f64::from(megabytes) / seconds;
    let [mut docker_out, mut dockctl_out, mut docker_in, mut dockctl_in] =
        std::array::from_fn(|_| Series::default());
    fleet.agent.forget_peak()?;
    fleet.controller.daemon.forget_peak()?;
    for _ in 0..bench.pick(7, 1) {
        docker_out.push(speed(out(docker(), None).await?));
        dockctl_out.push(speed(out(dockctl()?, None).await?));
        docker_in.push(speed(into(docker(), &archive).await?));
        dockctl_in.push(speed(into(dockctl()?, &archive).await?));
    }
    let agent = fleet.agent.peak()?.into();
    let controller = fleet.controller.daemon.peak()?.into();
    std::fs::remove_file(archive)?;
    bench.engine.remove(&id).await?;
    Ok(vec![
        Figure::ratio("copy out of a container", "MB/s", ("docker cp", &docker_out), &dockctl_out)
            .goal(SPEED),
        Figure::ratio("copy into a container", "MB/s", ("docker cp", &docker_in), &dockctl_in)
            .goal(SPEED),
        Figure::alone("agent's peak memory, copies", "MiB", &agent).goal(MEMORY),
        Figure::alone("controller's peak memory, copies", "MiB", &controller).goal(MEMORY),
    ])
}

/// Copies to a file, or to a pipe that is read and thrown away; gives the seconds.
async fn out((mut command, container): (Command, String), to: Option<&PathBuf>) -> Result<f64> {
    command.args(["cp", &format!("{container}:/large"), "-"]);
    let stdout = match to {
        Some(path) => std::fs::File::create(path)?.into(),
        None => Stdio::null(),
    };
    Ok(timed(&mut command, stdout).await?.0.as_secs_f64())
}

/// Copies an archive from a file; gives the seconds.
async fn into((mut command, container): (Command, String), archive: &Path) -> Result<f64> {
    // `timed` gives its program nothing to read, so a shell opens the file.
    let mut shell = Command::new("sh");
    let program = command.as_std().get_program().to_owned();
    shell.args(["-c", "file=$1; shift; exec \"$@\" < \"$file\"", "sh"]).arg(archive).arg(program);
    shell.args(["cp", "-", &format!("{container}:/in")]);
    for (name, value) in command.as_std().get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    command = shell;
    Ok(timed(&mut command, Stdio::null()).await?.0.as_secs_f64())
}

async fn same(one: &Path, other: &Path) -> Result<bool> {
    let mut cmp = Command::new("cmp");
    Ok(cmp.arg(one).arg(other).status().await?.success())
}
