//! `make soak`: half an hour in which everything happens that happens in a fleet, at once: containers
//! start and stop, logs are followed and left, agents lose their link, hosts are removed and new ones join,
//! lists are read. The controller's memory and open files are to be flat after the warm-up.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use dockctl_api::v1::{DeleteAgentRequest, StreamLogsRequest};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{Fleet, pages};
use crate::{
    api::Api,
    measure::Series,
    plot::{Curve, Plot},
    report::{Figure, Goal},
};

/// Starts and stops a second.
const CHURN: usize = 100;
/// Logs that are followed at the same time.
const FOLLOWS: usize = 20;
/// How long one is followed.
const FOLLOW: Duration = Duration::from_secs(7);
/// A link is lost this often, and a host is replaced.
const CUT: Duration = Duration::from_millis(500);
const REPLACE: Duration = Duration::from_secs(10);
/// All containers are listed this often.
const LIST: Duration = Duration::from_secs(5);
/// The controller is looked at this often.
const LOOK: Duration = Duration::from_secs(5);
/// A token is good for 15 minutes.
const LOGIN: Duration = Duration::from_secs(600);

/// What was seen of the controller.
#[derive(Default)]
pub(crate) struct Seen {
    /// Minutes and MiB.
    memory: Vec<(f64, f64)>,
    /// Minutes and open files.
    files: Vec<(f64, f64)>,
}

pub(super) async fn run(fleet: &mut Fleet<'_>, span: Duration) -> Result<(Vec<Figure>, Seen)> {
    let size = fleet.size.0;
    let token = fleet.controller.join_token_for(u32::try_from(size)?).await?;
    fleet.agents.enroll(&fleet.controller, &token, size).await?;
    fleet.agents.connect().await?;
    let (begin, mut seen) = (Instant::now(), Seen::default());
    let churning = tokio::spawn(fleet.agents.churn(CHURN, span));
    let mut following = JoinSet::new();
    let (mut cut, mut replace, mut list, mut look, mut login) =
        (every(CUT), every(REPLACE), every(LIST), every(LOOK), every(LOGIN));
    let (mut cuts, mut replaced, mut follows, mut lists) = (0, 0, 0, 0);
    while begin.elapsed() < span {
        while following.len() < FOLLOWS {
            let agent = fleet.agents.name(follows * 7919).to_owned();
            following.spawn(follow(fleet.controller.client().await?, agent));
            follows += 1;
        }
        tokio::select! {
            _ = cut.tick() => {
                fleet.agents.restart(cuts * 31);
                cuts += 1;
            }
            _ = replace.tick() => {
                let n = replaced * 17 % size;
                let agent = fleet.agents.name(n).to_owned();
                let mut client = fleet.controller.client().await?.agents();
                client.delete_agent(DeleteAgentRequest { agent }).await?;
                let token = fleet.controller.join_token().await?;
                fleet.agents.replace(n, &fleet.controller, &token).await?;
                replaced += 1;
            }
            _ = list.tick() => {
                pages::whole(&mut pages::client(fleet).await?).await?;
                lists += 1;
            }
            _ = look.tick() => {
                let (daemon, minutes) = (&fleet.controller.daemon, begin.elapsed().as_secs_f64() / 60.0);
                seen.memory.push((minutes, daemon.memory()?));
                seen.files.push((minutes, daemon.open_files()? as f64));
            }
            _ = login.tick() => fleet.controller.login().await?,
            Some(ended) = following.join_next() => ended?,
        }
    }
    drop(following);
    churning.await??;
    println!(
        "{cuts} links lost, {replaced} hosts replaced, {follows} logs followed, {lists} lists of all containers"
    );
    let figures = vec![
        Figure::alone("memory's drift after warm-up", "%", &drift(&seen.memory).into())
            .goal(Goal::AtMost(5.0)),
        Figure::alone("open files' drift after warm-up", "%", &drift(&seen.files).into())
            .goal(Goal::AtMost(5.0)),
    ];
    Ok((figures, seen))
}

/// By how much the median of the last part is above that of the part before, percent; the first quarter is
/// the warm-up.
fn drift(points: &[(f64, f64)]) -> f64 {
    let warm = points.len() / 4;
    let half = warm + (points.len() - warm) / 2;
    let median = |part: &[(f64, f64)]| {
        let mut series = Series::default();
        part.iter().for_each(|point| series.push(point.1));
        series.median()
    };
    100.0 * (median(&points[half..]) / median(&points[warm..half]) - 1.0)
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Follows a log for a while. An agent that is away just now is no failure.
async fn follow(api: Api, agent: String) {
    let request = StreamLogsRequest {
        agent,
        container: "any".to_owned(),
        follow: true,
        ..Default::default()
    };
    let reading = async {
        let Ok(stream) = api.containers().stream_logs(request).await else { return };
        let mut stream = stream.into_inner();
        while let Ok(Some(_)) = stream.message().await {}
    };
    let _ = timeout(FOLLOW, reading).await;
}

/// Memory and open files against time.
pub(super) fn plot(seen: &Seen, dir: &Path) -> Result<()> {
    for (title, y, file, points) in [
        ("Controller's memory in a soak", "MiB", "soak-memory.svg", &seen.memory),
        ("Controller's open files in a soak", "files", "soak-files.svg", &seen.files),
    ] {
        let curve = Curve { name: y, points: points.clone() };
        Plot { title, x: "minutes", y }.write(&dir.join(file), &[curve])?;
    }
    Ok(())
}
