//! `ps`: the containers of the fleet or of one host, in docker's columns.

use std::collections::HashMap;

use dockctl_api::v1::{AgentView, Container, ListContainersRequest};
use prost_types::Timestamp;

use super::Ctx;
use crate::{
    args,
    error::Result,
    moment,
    output::{
        clean, human,
        table::{Cell, Style, Table},
    },
    resolve,
    select::{Hosts, On},
};

/// `dockctl ps`.
pub(crate) async fn run(ctx: &Ctx, args: args::Ps) -> Result<()> {
    let agent = On::agent(args.on.as_ref());
    let request = ListContainersRequest {
        agent: agent.unwrap_or_default().to_owned(),
        all: args.all,
        label_selector: args.label.join(","),
        ..ListContainersRequest::default()
    };
    let listing = resolve::list(&ctx.session, request);
    let mut listed = match ctx.wait("listing containers", listing).await {
        Ok(listed) => listed,
        Err(error) => {
            return Err(match agent {
                Some(agent) => resolve::explain_agent(&ctx.session, agent, error).await,
                None => error,
            });
        }
    };
    if agent.is_none() {
        let hosts = ctx.wait("listing agents", Hosts::new(&ctx.session, args.on.as_ref())).await?;
        listed.containers.retain(|c| hosts.fits(&c.agent));
        hosts.keep(&mut listed.views);
    }
    let now = moment::now();
    ctx.show_list("Container", &listed.containers, || match args.quiet {
        true => ids(&listed.containers, args.no_trunc),
        false => table(&listed.containers, &listed.views, args.no_trunc, now).show(ctx.term),
    })?;
    tell_stale(ctx, &listed.views, "containers", now);
    Ok(())
}

/// Says on stderr which agents' parts of a fleet list are old, and why. `what` is listed.
pub(super) fn tell_stale(ctx: &Ctx, views: &[AgentView], what: &str, now: i64) {
    for view in views.iter().filter(|v| v.stale) {
        ctx.term.notice(&stale_notice(view, what, now));
    }
}

fn stale_notice(view: &AgentView, what: &str, now: i64) -> String {
    let cause = match clean(&view.cause) {
        cause if cause.is_empty() => String::new(),
        cause => format!(": {cause}"),
    };
    let agent = clean(&view.agent);
    // Only the cause knows whether the link or just the engine is away.
    match &view.as_of {
        Some(as_of) => {
            let age = human::short_span(now.saturating_sub(as_of.seconds));
            format!("{agent}: {what} as of {age} ago{cause}")
        }
        None => format!("{agent}: no {what} known yet{cause}"),
    }
}

fn ids(containers: &[Container], whole: bool) -> String {
    let id = |c: &Container| if whole { c.id.clone() } else { human::short_id(&c.id).to_owned() };
    containers.iter().map(|c| clean(&id(c)) + "\n").collect()
}

fn table(containers: &[Container], views: &[AgentView], whole: bool, now: i64) -> Table {
    let as_of: HashMap<&str, i64> =
        views.iter().filter_map(|v| Some((v.agent.as_str(), v.as_of.as_ref()?.seconds))).collect();
    let mut table = Table::new(&[
        "HOST",
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ])
    .giving_way(&[2, 3, 4, 5, 6]);
    for c in containers {
        let id = if whole { c.id.as_str() } else { human::short_id(&c.id) };
        let (status, style) = match (c.stale, as_of.get(c.agent.as_str())) {
            (false, Some(_)) => (aged(c, now), status_style(c)),
            (false, None) => (c.status.clone(), status_style(c)),
            (true, None) => (format!("{} (stale)", c.status), Style::Dim),
            (true, Some(as_of)) => {
                let age = human::short_span(now.saturating_sub(*as_of));
                (format!("{} (stale {age})", c.status), Style::Dim)
            }
        };
        let cells = [
            c.agent.clone(),
            id.to_owned(),
            c.image.clone(),
            human::command(&c.command, whole),
            human::ago(c.created_at.as_ref(), now),
            status,
            human::ports(&c.ports),
            c.name.clone(),
        ];
        let mut cells: Vec<Cell> = cells.into_iter().map(Cell::from).collect();
        if c.stale {
            table.styled_row(cells, Style::Dim);
        } else {
            cells[5].style(style);
            table.row(cells);
        }
    }
    table
}

/// The status with its age as of now: an inventory's is as old as the agent's last look at it.
pub(super) fn aged(c: &Container, now: i64) -> String {
    let age = |at: &Timestamp| human::span(now.saturating_sub(at.seconds));
    match (&c.started_at, &c.finished_at, c.status.split_once(") ")) {
        (Some(at), ..) if c.status.starts_with("Up ") => {
            let note = c.status.find(" (").map_or("", |from| &c.status[from..]);
            format!("Up {}{note}", age(at))
        }
        (_, Some(at), Some((head, _))) => format!("{head}) {} ago", age(at)),
        _ => c.status.clone(),
    }
}

pub(super) fn status_style(c: &Container) -> Style {
    match c.state.as_str() {
        "running" if c.status.contains("(unhealthy)") => Style::Bad,
        "running" => Style::Good,
        "restarting" | "paused" | "removing" => Style::Warn,
        "dead" => Style::Bad,
        _ => Style::Plain,
    }
}

#[cfg(test)]
mod tests {
    use dockctl_api::v1::Port;

    use super::*;

    const NOW: i64 = 1_795_361_220;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn container(agent: &str, name: &str, stale: bool) -> Container {
        Container {
            agent: agent.to_owned(),
            id: "3f2a4b5c6d7e8f90".to_owned(),
            name: name.to_owned(),
            image: "nginx:1.29".to_owned(),
            command: "nginx -g 'daemon off;'".to_owned(),
            created_at: at(NOW - 300),
            state: "running".to_owned(),
            status: "Up 5 minutes".to_owned(),
            ports: vec![Port {
                host_ip: "0.0.0.0".to_owned(),
                host_port: 80,
                container_port: 80,
                protocol: "tcp".to_owned(),
            }],
            stale,
            ..Container::default()
        }
    }

    fn view() -> AgentView {
        AgentView {
            agent: "web-9".to_owned(),
            as_of: at(NOW - 125),
            stale: true,
            cause: "no heartbeat".to_owned(),
        }
    }

    #[test]
    fn rows_read_as_dockers() {
        let list = [container("web-1", "nginx", false), container("web-9", "old\x1b[2J", true)];
        let text = table(&list, &[view()], false, NOW).render(false);
        assert_eq!(
            text,
            "HOST    CONTAINER ID   IMAGE        COMMAND                  CREATED         STATUS                    PORTS                NAMES\n\
             web-1   3f2a4b5c6d7e   nginx:1.29   \"nginx -g 'daemon of…\"   5 minutes ago   Up 5 minutes              0.0.0.0:80->80/tcp   nginx\n\
             web-9   3f2a4b5c6d7e   nginx:1.29   \"nginx -g 'daemon of…\"   5 minutes ago   Up 5 minutes (stale 2m)   0.0.0.0:80->80/tcp   old\n"
        );
        assert!(table(&list, &[view()], false, NOW).render(true).contains("\x1b[2mweb-9"));
        assert_eq!(ids(&list[..1], false), "3f2a4b5c6d7e\n");
        assert_eq!(ids(&list[..1], true), "3f2a4b5c6d7e8f90\n");
    }

    #[test]
    fn a_status_is_as_old_as_now() {
        let shown = |status: &str, started: i64, finished: i64| {
            let at = |ago: i64| (ago > 0).then_some(Timestamp { seconds: NOW - ago, nanos: 0 });
            let c = Container {
                status: status.to_owned(),
                started_at: at(started),
                finished_at: at(finished),
                ..Container::default()
            };
            aged(&c, NOW)
        };
        assert_eq!(shown("Up 5 seconds", 61, 0), "Up About a minute");
        assert_eq!(shown("Up 5 seconds (healthy)", 20, 0), "Up 20 seconds (healthy)");
        assert_eq!(shown("Exited (137) 3 seconds ago", 0, 300), "Exited (137) 5 minutes ago");
        assert_eq!(shown("Created", 0, 0), "Created");
    }

    #[test]
    fn stale_views_are_told() {
        assert_eq!(
            stale_notice(&view(), "containers", NOW),
            "web-9: containers as of 2m ago: no heartbeat"
        );
        let cause = "its Docker engine does not answer".to_owned();
        assert_eq!(
            stale_notice(&AgentView { cause, as_of: None, ..view() }, "images", NOW),
            "web-9: no images known yet: its Docker engine does not answer"
        );
    }
}
