//! Who did what to which host: as `dockctl audit` tells it.

use anyhow::ensure;
use dockctl_tests::{LONG, await_until, scenario};

#[test]
fn what_was_done_is_told_and_proven() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let app = docker.run("app", "exec sleep 100000").await?.name;
        dockctl.ok(&["stop", "-t", "0", &format!("web-1/{app}")]).await?;

        // The end of a call is written beside its answer.
        await_until("the call in the audit log", LONG, async || {
            let told = dockctl.ok(&["audit", "ls", "--on", "web-1"]).await?;
            for outcome in ["begun", "done ("] {
                let line =
                    told.lines().find(|l| l.contains("StopContainer") && l.contains(outcome));
                let named = line.is_some_and(|l| l.contains("admin") && l.contains(&app));
                ensure!(named, "{told}");
            }
            Ok(Some(()))
        })
        .await?;

        let proven = dockctl.ok(&["audit", "verify"]).await?;
        let known = proven.trim_end().rsplit(' ').next().unwrap_or_default().to_owned();
        dockctl.ok(&["agents", "label", "web-1", "env=prod"]).await?;
        dockctl.ok(&["audit", "verify", "--known", &known]).await?;

        let export = dockctl.ok(&["audit", "export"]).await?;
        let last = export.lines().last().unwrap_or_default();
        ensure!(last.contains("UpdateAgentLabels") && last.contains("\"hash\""), "{last}");
        ensure!(!export.contains("dockctl1."), "a join token is in it");

        let other = format!("1:{}", "0".repeat(64));
        let refused = dockctl.run(&["audit", "verify", "--known", &other]).await?;
        ensure!(refused.code == 1 && refused.stderr.contains("entry 1"), "{refused:?}");
        Ok(())
    });
}
