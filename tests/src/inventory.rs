//! The fleet's inventory against docker's own list.

use anyhow::{Result, ensure};
use dockctl_api::v1::ListContainersRequest;

use crate::{
    controller::Controller,
    docker::Docker,
    wait::{LONG, await_until},
};

/// Waits until the fleet's inventory holds exactly the scenario's containers that docker has, each in
/// its state.
///
/// # Errors
/// Names both lists when they do not come to agree.
pub async fn inventory_is_dockers(controller: &Controller<'_>, docker: &Docker) -> Result<()> {
    let mut api = controller.admin().await?.containers();
    let (key, value) = docker.label();
    let label_selector = format!("{key}={value}");
    let filter = format!("label={label_selector}");
    let list = ["ps", "-a", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.State}}"];
    await_until("the inventory to agree with docker", LONG, async || {
        let listed = docker.cli(&list).await?;
        let mut theirs: Vec<String> = listed.lines().map(str::to_owned).collect();
        let label_selector = label_selector.clone();
        let request = ListContainersRequest { all: true, label_selector, ..Default::default() };
        let fleet = api.list_containers(request).await?.into_inner();
        ensure!(fleet.views.iter().all(|v| !v.stale), "{:?}", fleet.views);
        let mut ours: Vec<String> =
            fleet.containers.iter().map(|c| format!("{} {}", c.id, c.state)).collect();
        theirs.sort();
        ours.sort();
        ensure!(ours == theirs, "we have {ours:?}, docker has {theirs:?}");
        Ok(Some(()))
    })
    .await
}
