//! `ps` over the whole fleet: the first page, all pages, and whether the memory comes back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dockctl_api::v1::{
    Container, ListContainersRequest, container_service_client::ContainerServiceClient,
};

use super::Fleet;
use crate::{
    api::Authorized,
    measure::{Series, ms},
    report::{Figure, Goal},
};

/// As dockctl asks for.
const PAGE: u32 = 2_000;
const LARGEST: usize = 64 << 20;

pub(super) async fn run(fleet: &mut Fleet<'_>) -> Result<Vec<Figure>> {
    fleet.controller.login().await?;
    let mut client = client(fleet).await?;
    let before = fleet.controller.daemon.memory()?;
    fleet.controller.daemon.forget_peak()?;
    let (mut first, mut all) = (Series::default(), Series::default());
    for _ in 0..fleet.pick(20, 3) {
        let begin = Instant::now();
        page(&mut client, String::new()).await?;
        first.push(ms(begin.elapsed()));
    }
    for _ in 0..fleet.pick(5, 1) {
        let begin = Instant::now();
        let listed = whole(&mut client).await?;
        all.push(begin.elapsed().as_secs_f64());
        fleet.agents.ensure_same(&listed)?;
    }
    let peak = fleet.controller.daemon.peak()?;
    tokio::time::sleep(Duration::from_secs(fleet.pick(10, 1))).await;
    let kept = fleet.controller.daemon.memory()? - before;
    Ok(vec![
        Figure::alone("ps of the fleet, first page", "ms", &first).goal(Goal::AtMost(50.0)),
        Figure::alone("ps of the fleet, all pages", "s", &all).goal(Goal::AtMost(1.5)),
        Figure::alone("controller's memory for it", "MiB", &(peak - before).into()),
        Figure::alone("controller's memory kept of it", "MiB", &kept.into())
            .goal(Goal::AtMost(16.0)),
    ])
}

/// A client that takes pages of any size.
pub(super) async fn client(fleet: &Fleet<'_>) -> Result<ContainerServiceClient<Authorized>> {
    Ok(fleet.controller.client().await?.containers().max_decoding_message_size(LARGEST))
}

/// One page and where the next begins.
async fn page(
    client: &mut ContainerServiceClient<Authorized>,
    page_token: String,
) -> Result<(Vec<Container>, String)> {
    let request =
        ListContainersRequest { all: true, page_size: PAGE, page_token, ..Default::default() };
    let answer = client.list_containers(request).await?.into_inner();
    Ok((answer.containers, answer.next_page_token))
}

/// All containers of the fleet, in their order.
pub(super) async fn whole(
    client: &mut ContainerServiceClient<Authorized>,
) -> Result<Vec<Container>> {
    let (mut all, mut next) = page(client, String::new()).await?;
    while !next.is_empty() {
        let (more, after) = page(client, next.clone()).await?;
        ensure!(after != next, "a page that is followed by itself");
        all.extend(more);
        next = after;
    }
    Ok(all)
}
