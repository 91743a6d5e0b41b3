//! An agent's identity: it survives torn files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::{AgentState, CreateJoinTokenRequest};
use dockctl_tests::{AgentSpec, Process, World, scenario};

/// sled's database file, wherever under the state directory it is.
fn database(dir: &Path) -> Result<PathBuf> {
    let found = Command::new("find").arg(dir).args(["-name", "db", "-type", "f"]).output()?;
    let found = String::from_utf8(found.stdout)?;
    Ok(found.lines().next().context("no sled database")?.into())
}

/// Something that happens to a state directory.
type Damage<'a> = &'a dyn Fn(&Path) -> Result<()>;

/// Joins, stops, and gives the agent's directory to `damage`; then the agent must come back as itself.
async fn survives(world: &World, damages: &[Damage<'_>]) -> Result<()> {
    let controller = world.controller().await?;
    let mut agent = world.agent(&controller, "web-1").await?;
    for (n, damage) in damages.iter().enumerate() {
        agent.process.kill9()?;
        damage(&agent.spec.data_dir).with_context(|| format!("damage {n}"))?;
        agent.start_again().await.with_context(|| format!("after damage {n}"))?;
    }
    controller.await_state("web-1", AgentState::Connected).await?;
    Ok(())
}

#[test]
fn with_its_sled_file_cut_flipped_or_gone_an_agent_comes_back_as_itself() {
    scenario(async |world| {
        let cut = |part: fn(u64) -> u64| {
            move |dir: &Path| {
                let file = fs::OpenOptions::new().write(true).open(database(dir)?)?;
                let length = file.metadata()?.len();
                Ok(file.set_len(part(length))?)
            }
        };
        let flip = |dir: &Path| {
            let path = database(dir)?;
            let mut bytes = fs::read(&path)?;
            for byte in bytes.iter_mut().step_by(61) {
                *byte ^= 0x5a;
            }
            Ok(fs::write(path, bytes)?)
        };
        let remove = |dir: &Path| {
            let database = database(dir)?;
            Ok(fs::remove_dir_all(database.parent().context("no parent")?)?)
        };
        survives(
            world,
            &[
                &cut(|_| 0),
                &cut(|_| 1),
                &cut(|l| l / 3),
                &cut(|l| l / 2),
                &cut(|l| l.saturating_sub(1)),
                &flip,
                &remove,
            ],
        )
        .await
    });
}

#[test]
fn only_join_stores_the_identity_and_run_lives_on_it() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let token = controller.join_token(CreateJoinTokenRequest::default()).await?.token;
        let spec = AgentSpec::new(world, &controller, "web-1")?;
        let mut command = spec.join_command(&token)?;
        command.arg("--only-join");
        let mut process = Process::spawn("join", command, world.logs())?;
        ensure!(process.exit_code().await? == 0, "{}", process.tail());
        let record = controller.agent_record("web-1").await?;
        ensure!(record.state() == AgentState::Offline, "{record:?}");
        let mut process = Process::spawn("web-1", spec.run_command()?, world.logs())?;
        let ready: serde_json::Value = process.ready().await?;
        ensure!(ready["id"] == *record.id, "{ready}");
        Ok(())
    });
}

#[test]
fn run_without_an_identity_says_what_to_do() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let spec = AgentSpec::new(world, &controller, "web-1")?;
        let mut process = Process::spawn("web-1", spec.run_command()?, world.logs())?;
        ensure!(process.exit_code().await? > 0);
        ensure!(process.log()?.contains("join"), "{}", process.tail());
        Ok(())
    });
}
