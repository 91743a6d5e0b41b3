//! Fifty and five hundred people who watch the whole fleet's events, and one who does not read.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dockctl_api::v1::StreamEventsResponse;
use tokio::task::JoinSet;
use tonic::Streaming;

use super::{Fleet, churn};
use crate::{
    measure::Series,
    report::{Figure, Goal},
};

const FEW: usize = 50;
const MANY: usize = 500;
/// Starts and stops a second.
const RATE: usize = 100;

pub(super) async fn run(fleet: &mut Fleet<'_>) -> Result<Vec<Figure>> {
    let (rounds, span) = fleet.pick((3, Duration::from_secs(10)), (1, Duration::from_secs(1)));
    let many = fleet.pick(MANY, 60);
    fleet.controller.login().await?;
    // It opens its events and never looks at them until all is over.
    let unread = churn::subscribe(fleet).await?;
    let (mut with_few, mut with_many) = (Series::default(), Series::default());
    for _ in 0..rounds {
        with_few.push(watched(fleet, FEW, span).await?);
        with_many.push(watched(fleet, many, span).await?);
    }
    let told = fate(fleet, unread).await?;
    println!("the one who does not read was told: {told}");
    Ok(vec![
        Figure::ratio("processor, 500 watchers", "%", ("50 watchers", &with_few), &with_many)
            .goal(Goal::AtMost(2.0)),
    ])
}

/// The controller's processor time while so many watch, percent of one.
async fn watched(fleet: &Fleet<'_>, watchers: usize, span: Duration) -> Result<f64> {
    let mut reading = JoinSet::new();
    for _ in 0..watchers {
        reading.spawn(counted(churn::subscribe(fleet).await?, RATE * span.as_secs() as usize));
    }
    let load = fleet.controller.daemon.load()?;
    let made = fleet.agents.churn(RATE, span).await?;
    ensure!(made == RATE * span.as_secs() as usize, "{made} changes");
    while let Some(read) = tokio::time::timeout(Duration::from_secs(60), reading.join_next())
        .await
        .context("a watcher did not hear all events")?
    {
        read??;
    }
    load()
}

async fn counted(mut stream: Streaming<StreamEventsResponse>, count: usize) -> Result<()> {
    let mut read = 0;
    while read < count {
        let message = stream.message().await?.context("the events ended")?;
        read += usize::from(message.event.is_some());
    }
    Ok(())
}

/// What becomes of a watcher that did not read while more happened than is kept for it.
async fn fate(fleet: &Fleet<'_>, mut unread: Streaming<StreamEventsResponse>) -> Result<String> {
    fleet.agents.churn(1_000, Duration::from_secs(20)).await?;
    loop {
        match unread.message().await {
            Ok(Some(message)) if message.notice.is_some() => {
                let notice = message.notice.unwrap_or_default();
                return Ok(format!("{}: {}", notice.reason, notice.message));
            }
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("it was ended without a reason"),
            Err(status) => return Ok(format!("{:?}: {}", status.code(), status.message())),
        }
    }
}
