//! A controller that runs out of file descriptors says so, goes on with those whom it has, and takes others again
//! when there is room.

use std::{net::TcpStream, process::Command};

use anyhow::{Context as _, ensure};
use dockctl_tests::{LONG, await_until, scenario};

#[test]
fn without_file_descriptors_the_controller_waits_for_room() {
    scenario(async |world| {
        let (controller, _agent, _docker, dockctl) = world.one_host("web-1").await?;
        let pid = controller.process.pid().to_string();
        let before = controller.agent_record("web-1").await?.epoch;
        let room = controller.process.open_files()? + 4;
        let limit = |most: &str| {
            let status = Command::new("prlimit").args(["--pid", &pid]).arg(most).status();
            status.context("prlimit").map(|status| status.success())
        };
        ensure!(limit(&format!("--nofile={room}:1024"))?, "the limit was not set");

        let strangers = (0..20).map(|_| TcpStream::connect(controller.api));
        let strangers = strangers.collect::<Result<Vec<_>, _>>()?;
        controller.process.wait_for_log("cannot accept a connection").await?;

        drop(strangers);
        await_until("room for one more", LONG, async || dockctl.ok(&["ps"]).await.map(Some))
            .await?;
        ensure!(controller.agent_record("web-1").await?.epoch == before, "the host was lost");
        Ok(())
    });
}
