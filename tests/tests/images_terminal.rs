//! What a person sees and is asked at a terminal, which `script` makes.

use anyhow::{Result, ensure};
use dockctl_tests::{Dockctl, IMAGE, scenario};

/// What a terminal shows of dockctl with these keys, and the exit code.
async fn at_terminal(
    dockctl: &Dockctl<'_>,
    arguments: &[&str],
    keys: &str,
) -> Result<(String, i32)> {
    let output = dockctl.on_a_terminal(arguments, keys, true).await?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.code))
}

#[test]
fn layers_are_redrawn_in_place() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let registry = world.registry(false).await?;
        let image = format!("{}/{}:1", registry.address, world.own("seen"));
        docker.cli(&["tag", IMAGE, &image]).await?;
        let (shown, code) = at_terminal(&dockctl, &["push", &image], "").await?;
        ensure!(code == 0, "{shown}");
        // The layer's line was written first, then gone back to and written anew.
        ensure!(shown.contains(": Preparing") && shown.contains("\x1b[1A"), "{shown:?}");
        ensure!(shown.contains(": Pushed"), "{shown:?}");

        let (shown, code) = at_terminal(&dockctl, &["save", IMAGE], "").await?;
        ensure!(code == 2 && shown.contains("cowardly refusing to save"), "{shown}");
        Ok(())
    });
}

#[test]
fn a_prune_says_what_it_will_remove_and_takes_no_for_an_answer() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let name = world.own("asked");
        let label = docker.selector();
        docker.cli(&["volume", "create", "--label", &label, &name]).await?;
        let filter = format!("label={label}");
        let prune = ["volumes", "prune", "-a", "--filter", &filter];

        let (shown, code) = at_terminal(&dockctl, &prune, "n\n").await?;
        ensure!(shown.contains("WARNING! This will remove all local volumes not used"), "{shown}");
        ensure!(shown.contains("on web-1.") && shown.contains("[y/N]"), "{shown}");
        ensure!(code == 1 && shown.contains("nothing was changed"), "{shown}");
        docker.cli(&["volume", "inspect", &name]).await?;

        let (shown, code) = at_terminal(&dockctl, &prune, "y\n").await?;
        ensure!(code == 0 && shown.contains("Deleted Volumes:"), "{shown}");
        ensure!(docker.raw(&["volume", "inspect", &name]).await?.code != 0, "it is still there");

        let (shown, _) = at_terminal(&dockctl, &["system", "prune"], "n\n").await?;
        ensure!(shown.contains("- all stopped containers"), "{shown}");
        ensure!(shown.contains("- unused build cache"), "{shown}");
        Ok(())
    });
}
