//! `ps`: the containers of the fleet or of one host, in docker's columns.

use std::collections::HashMap;

use dockctl_api::v1::{AgentView, Container, ListContainersRequest};
use prost_types::Timestamp;

use super::{
    Ctx,
    fleet_filter::{self, Filters},
};
use crate::{
    args,
    error::{Error, Result},
    format::{self, Row, Template},
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
    let template = Template::of_list(args.format.as_deref())?;
    let last = if args.latest { 1 } else { args.last.unwrap_or(0) };
    // A filter by what has ended means it, as docker has it.
    let ended = |f: &String| f.starts_with("status=") || f.starts_with("exited=");
    let mut request = ListContainersRequest {
        agent: agent.unwrap_or_default().to_owned(),
        all: args.all || last > 0 || args.filter.iter().any(ended),
        label_selector: args.label.join(","),
        ..ListContainersRequest::default()
    };
    let mut filters = None;
    if agent.is_some() {
        request.filters.clone_from(&args.filter);
        request.last = last;
        request.size = args.size || template.as_ref().is_some_and(|t| t.names(".Size"));
    } else {
        if args.size {
            return Err(Error::usage("--size needs --on HOST"));
        }
        fleet_filter::plain_names(&args.filter)?;
        filters = Some(Filters::read(&args.filter, &fleet_filter::CONTAINERS)?);
    }
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
    if let Some(filters) = filters {
        listed.containers.retain(|c| fleet_filter::container(&filters, c));
        if last > 0 {
            newest(&mut listed.containers, last);
        }
    }
    let now = moment::now();
    if args.quiet && template.is_some() {
        ctx.term
            .notice("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    match template.filter(|_| !args.quiet) {
        Some(template) => {
            let row = |c: &Container| row(c, args.no_trunc, now);
            let rows: Vec<Row> = listed.containers.iter().map(row).collect();
            ctx.print_made(template.rows(&COLUMNS, &rows)?)?;
        }
        None => ctx.show_list("Container", &listed.containers, || match args.quiet {
            true => ids(&listed.containers, args.no_trunc),
            false => table(&listed.containers, &listed.views, &args, now).show(ctx.term),
        })?,
    }
    tell_stale(ctx, &listed.views, "containers", now);
    Ok(())
}

/// Leaves the newest so many, the newest first.
fn newest(containers: &mut Vec<Container>, last: u32) {
    let made = |c: &Container| c.created_at.map_or((0, 0), |t| (t.seconds, t.nanos));
    containers.sort_by_key(|c| std::cmp::Reverse(made(c)));
    containers.truncate(usize::try_from(last).unwrap_or(usize::MAX));
}

const COLUMNS: [(&str, &str); 16] = [
    ("Agent", "HOST"),
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

/// A container under docker's names.
fn row(c: &Container, whole: bool, now: i64) -> Row {
    let mount = |name: &String| match name.char_indices().nth(15) {
        Some(_) if !whole => name.chars().take(14).chain(['…']).collect(),
        _ => name.clone(),
    };
    let fields = [
        ("Agent", c.agent.clone()),
        ("ID", if whole { c.id.clone() } else { human::short_id(&c.id).to_owned() }),
        ("Names", c.name.clone()),
        ("Image", c.image.clone()),
        ("Command", human::command(&c.command, whole)),
        ("CreatedAt", format::time(c.created_at.as_ref())),
        ("RunningFor", human::ago(c.created_at.as_ref(), now)),
        ("Ports", human::ports(&c.ports)),
        ("State", c.state.clone()),
        ("Status", aged(c, now)),
        ("Size", size(c)),
        ("Labels", super::labels(&c.labels)),
        ("Mounts", c.mounts.iter().map(mount).collect::<Vec<_>>().join(",")),
        ("LocalVolumes", c.local_volumes.to_string()),
        ("Networks", c.networks.join(",")),
    ];
    Row::new(fields, &c.labels).with_nothing("Platform")
}

/// What a container has written, and with its image.
fn size(c: &Container) -> String {
    let written = human::decimal_size(c.size_rw.unwrap_or(0), 3);
    match c.size_root_fs {
        Some(all) if all > 0 => format!("{written} (virtual {})", human::decimal_size(all, 3)),
        _ => written,
    }
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

fn table(containers: &[Container], views: &[AgentView], args: &args::Ps, now: i64) -> Table {
    let whole = args.no_trunc;
    let as_of: HashMap<&str, i64> =
        views.iter().filter_map(|v| Some((v.agent.as_str(), v.as_of.as_ref()?.seconds))).collect();
    let columns =
        ["HOST", "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES", "SIZE"];
    let shown = if args.size { 9 } else { 8 };
    let mut table = Table::new(&columns[..shown]).giving_way(&[2, 3, 4, 5, 6]);
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
            size(c),
        ];
        let mut cells: Vec<Cell> = cells.into_iter().take(shown).map(Cell::from).collect();
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
        let plain = args::Ps {
            all: false,
            quiet: false,
            on: None,
            label: Vec::new(),
            no_trunc: false,
            filter: Vec::new(),
            last: None,
            latest: false,
            size: false,
            format: None,
        };
        let list = [container("web-1", "nginx", false), container("web-9", "old\x1b[2J", true)];
        let text = table(&list, &[view()], &plain, NOW).render(false);
        assert_eq!(
            text,
            "HOST    CONTAINER ID   IMAGE        COMMAND                  CREATED         STATUS                    PORTS                NAMES\n\
             web-1   3f2a4b5c6d7e   nginx:1.29   \"nginx -g 'daemon of…\"   5 minutes ago   Up 5 minutes              0.0.0.0:80->80/tcp   nginx\n\
             web-9   3f2a4b5c6d7e   nginx:1.29   \"nginx -g 'daemon of…\"   5 minutes ago   Up 5 minutes (stale 2m)   0.0.0.0:80->80/tcp   old\n"
        );
        assert!(table(&list, &[view()], &plain, NOW).render(true).contains("\x1b[2mweb-9"));
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
