//! `dockctl ps` beside `docker ps`, from the start of the process to its end.

use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::{
    engine::PREFIX,
    harness::{Bench, Fleet, timed},
    measure::{Series, ms},
    report::{Figure, Goal},
};

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let fleet = Fleet::start(bench).await?;
    let config = fleet.controller.dockctl_login(bench).await?;
    let (mut direct, mut dockctl) = (Series::default(), Series::default());
    for round in 0..=bench.pick(40, 5) {
        let one = ps(&mut bench.docker()).await?;
        let other = ps(bench.program("dockctl")?.env("DOCKCTL_CONFIG", &config)).await?;
        // The first one reads the programs from the disk.
        if round > 0 {
            direct.push(one);
            dockctl.push(other);
        }
    }
    let figure = Figure::ratio("ps, the whole process", "ms", ("docker", &direct), &dockctl);
    // 25 ms where docker takes 16.
    Ok(vec![figure.goal(Goal::AtMost(1.6))])
}

async fn ps(program: &mut Command) -> Result<f64> {
    let (took, printed) = timed(program.arg("ps"), Stdio::piped()).await?;
    let printed = String::from_utf8_lossy(&printed);
    ensure!(printed.contains(PREFIX), "`ps` lists none of our containers: {printed}");
    Ok(ms(took))
}
