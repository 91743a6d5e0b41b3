//! Containers that start and stop all over the fleet: what subscribers hear and how late, and whether the
//! inventory is exact afterwards.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use dockctl_api::v1::{StreamEventsRequest, StreamEventsResponse};
use tonic::Streaming;

use super::{Fleet, pages};
use crate::{
    measure::Series,
    report::{Figure, Goal},
};

/// Starts and stops a second.
const RATE: usize = 1_000;
/// People and programs that listen.
const SUBSCRIBERS: usize = 4;

pub(super) async fn run(fleet: &mut Fleet<'_>) -> Result<Vec<Figure>> {
    fleet.controller.login().await?;
    let span = Duration::from_secs(fleet.pick(20, 2));
    let mut streams = Vec::new();
    for _ in 0..SUBSCRIBERS {
        streams.push(subscribe(fleet).await?);
    }
    let load = fleet.controller.daemon.load()?;
    let hearing = streams.into_iter().map(|stream| tokio::spawn(heard(stream, expected(span))));
    let hearing: Vec<_> = hearing.collect();
    let made = fleet.agents.churn(RATE, span).await?;
    ensure!(made == expected(span), "{made} changes were made of {}", expected(span));
    let mut lags = Series::default();
    for heard in hearing {
        let heard = tokio::time::timeout(Duration::from_secs(30), heard);
        lags.extend(heard.await.context("a subscriber did not hear all events")???);
    }
    let cpu = load()?;
    // An event is sent before the change that it tells of.
    let mut client = pages::client(fleet).await?;
    let mut tries = 0;
    while let Err(error) = fleet.agents.ensure_same(&pages::whole(&mut client).await?) {
        tries += 1;
        ensure!(tries < 20, "the inventory is not exact: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let longest = Series::from(lags.max());
    Ok(vec![
        Figure::alone("event beside 1,000 changes a second", "ms", &lags),
        Figure::alone("the latest of these events", "ms", &longest).goal(Goal::AtMost(1_000.0)),
        Figure::alone("processor, 1,000 changes a second", "%", &cpu.into()),
    ])
}

/// How many changes there will be.
fn expected(span: Duration) -> usize {
    RATE * span.as_secs() as usize
}

/// Opens the events of the whole fleet.
pub(super) async fn subscribe(fleet: &Fleet<'_>) -> Result<Streaming<StreamEventsResponse>> {
    let mut client = fleet.controller.client().await?.system();
    Ok(client.stream_events(StreamEventsRequest::default()).await?.into_inner())
}

/// Reads so many events; gives how late each was, milliseconds.
async fn heard(mut stream: Streaming<StreamEventsResponse>, count: usize) -> Result<Series> {
    let mut lags = Series::default();
    while lags.len() < count {
        let message = stream.message().await?.context("the events ended")?;
        if let Some(notice) = message.notice {
            anyhow::bail!("{}: {}", notice.reason, notice.message);
        }
        let event = message.event.context("neither event nor notice")?;
        let at = SystemTime::try_from(event.time.context("an event without a time")?)?;
        lags.push(SystemTime::now().duration_since(at).unwrap_or_default().as_secs_f64() * 1e3);
    }
    Ok(lags)
}
