//! `wait`, `top`, `diff` and `port`: what there is to know of containers, in docker's words.

use dockctl_api::{
    error::reason,
    v1::{
        ContainerExit, DiffContainerRequest, DiffContainerResponse, FileChangeKind,
        ListProcessesRequest, ListProcessesResponse, WaitContainerRequest,
        container_service_client::ContainerServiceClient,
    },
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{AT_ONCE, Ctx, act, inspect::inspect};
use crate::{
    args::{
        Format, Refs,
        containers::{Diff, Port},
    },
    client::LARGEST_ANSWER,
    error::{Error, Exit, Result},
    output::{
        self, clean,
        table::{Cell, Table},
    },
    refs::Ref,
    resolve::Target,
    retry::Retry,
};

/// `dockctl wait REF...`: the exit codes, in the order named.
pub(crate) async fn wait(ctx: &Ctx, refs: Refs) -> Result<()> {
    let one = |wanted| async move {
        let waiting = |target| exit(ctx, target);
        act::one(ctx, wanted, &waiting).await
    };
    let mut exits = Box::pin(stream::iter(&refs.containers).map(one).buffered(AT_ONCE));
    let (mut failures, mut all) = (Vec::new(), Vec::new());
    let mut names = refs.containers.iter();
    while let (Some(result), Some(name)) =
        (ctx.wait("waiting for the containers to end", exits.next()).await, names.next())
    {
        match result {
            Ok(exit) => {
                if !exit.error.is_empty() {
                    ctx.term.notice(&format!("{name}: {}", clean(&exit.error)));
                }
                match ctx.format {
                    Format::Table => output::print(format!("{}\n", exit.code).as_bytes())?,
                    _ => all.push(json!({
                        "ref": name.to_string(), "code": exit.code, "error": exit.error,
                    })),
                }
            }
            Err(error) => failures.push(error),
        }
    }
    if ctx.format != Format::Table {
        ctx.print_document(&Value::Array(all))?;
    }
    act::fail(ctx, failures)
}

/// Waits through lost links: an engine tells how a container has ended afterwards, too.
async fn exit(ctx: &Ctx, target: Target) -> Result<ContainerExit> {
    let mut retry = Retry::new(ctx.term, target.agent.clone());
    let request = WaitContainerRequest {
        agent: target.agent,
        container: target.container,
        ..WaitContainerRequest::default()
    };
    loop {
        match exit_seen(ctx, &request, &mut retry).await {
            Err(error) => {
                // One that is lost under the call was there.
                if error.has_reason(reason::LINK_LOST) {
                    retry.opened();
                }
                retry.after(error).await?;
            }
            exit => return exit,
        }
    }
}

/// One wait, until its link is lost.
async fn exit_seen(
    ctx: &Ctx,
    request: &WaitContainerRequest,
    retry: &mut Retry,
) -> Result<ContainerExit> {
    let mut waiting = ctx
        .session
        .call(None, |channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).wait_container(request).await }
        })
        .await?;
    retry.opened();
    while let Some(message) = waiting.message().await? {
        if let Some(exit) = message.exit {
            return Ok(exit);
        }
        retry.alive();
    }
    Err(Error::new(Exit::Failed, "the agent did not tell how it ended"))
}

/// `dockctl top REF [PS OPTIONS]`.
pub(crate) async fn top(ctx: &Ctx, wanted: &str, options: &[String]) -> Result<()> {
    let wanted: Ref = wanted
        .parse()
        .map_err(|why| Error::usage(format!("invalid value '{}' for REF: {why}", clean(wanted))))?;
    let ps_options = options.join(" ");
    let list = async |target: Target| {
        let request = ListProcessesRequest {
            agent: target.agent,
            container: target.container,
            ps_options: ps_options.clone(),
        };
        let call = ctx.session.ask(|channel| {
            let request = request.clone();
            async move {
                ContainerServiceClient::new(channel)
                    .max_decoding_message_size(LARGEST_ANSWER)
                    .list_processes(request)
                    .await
            }
        });
        call.await
    };
    let listed = ctx.wait("asking for the processes", act::one(ctx, &wanted, &list)).await?;
    ctx.show("ListProcessesResponse", &listed, || processes(&listed))
}

fn processes(listed: &ListProcessesResponse) -> String {
    // As wide as docker's columns are at least.
    let mut table = Table::bare(&vec![17; listed.titles.len()]);
    let row = |cells: &[String]| cells.iter().map(Cell::from).collect();
    table.row(row(&listed.titles));
    listed.rows.iter().for_each(|one| table.row(row(&one.cells)));
    table.render(false)
}

/// `dockctl diff REF`.
pub(crate) async fn diff(ctx: &Ctx, args: Diff) -> Result<()> {
    let list = async |target: Target| {
        let request = DiffContainerRequest { agent: target.agent, container: target.container };
        let call = ctx.session.ask(|channel| {
            let request = request.clone();
            async move {
                ContainerServiceClient::new(channel)
                    .max_decoding_message_size(LARGEST_ANSWER)
                    .diff_container(request)
                    .await
            }
        });
        call.await
    };
    let listed = ctx.wait("comparing", act::one(ctx, &args.container, &list)).await?;
    ctx.show_list("FileChange", &listed.changes, || changes(&listed))
}

fn changes(listed: &DiffContainerResponse) -> String {
    let line = |change: &dockctl_api::v1::FileChange| {
        let kind = match change.kind() {
            FileChangeKind::Modified => "C",
            FileChangeKind::Added => "A",
            FileChangeKind::Deleted => "D",
            FileChangeKind::Unspecified => "?",
        };
        format!("{kind} {}\n", clean(&change.path))
    };
    listed.changes.iter().map(line).collect()
}

/// `dockctl port REF [PORT]`.
pub(crate) async fn port(ctx: &Ctx, args: Port) -> Result<()> {
    let look = async |target| inspect(ctx, &target).await;
    let told = ctx.wait("asking for the ports", act::one(ctx, &args.container, &look)).await?;
    let published = published(&told["NetworkSettings"]["Ports"]);
    let Some(wanted) = args.port else {
        let value = || {
            Ok(json!(
                published.iter().map(|(p, at)| json!({"port": p, "at": at})).collect::<Vec<_>>()
            ))
        };
        return ctx.show_value(value, || {
            published.iter().map(|(port, at)| format!("{port} -> {at}\n")).collect()
        });
    };
    let wanted = if wanted.contains('/') { wanted } else { format!("{wanted}/tcp") };
    let at: Vec<&String> =
        published.iter().filter(|(port, _)| *port == wanted).map(|(_, at)| at).collect();
    if at.is_empty() {
        let sentence = format!("no public port '{}' published", clean(&wanted));
        return Err(Error::new(Exit::Failed, sentence).about(args.container.to_string()));
    }
    ctx.show_value(|| Ok(json!(at)), || at.iter().map(|at| format!("{at}\n")).collect())
}

/// Each published port, 80/tcp, and where it is: 0.0.0.0:8080. In the order of numbers.
fn published(ports: &Value) -> Vec<(String, String)> {
    let mut all: Vec<(u32, String, String)> = Vec::new();
    for (port, bindings) in ports.as_object().into_iter().flatten() {
        let number = port.split('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        for binding in bindings.as_array().into_iter().flatten() {
            let part = |key: &str| clean(binding[key].as_str().unwrap_or_default());
            let ip = part("HostIp");
            let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
            all.push((number, clean(port), format!("{ip}:{}", part("HostPort"))));
        }
    }
    all.sort();
    all.into_iter().map(|(_, port, at)| (port, at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_are_listed_as_docker_lists_them() {
        let ports = json!({
            "443/tcp": null,
            "9000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "1"}, {"HostIp": "::", "HostPort": "1"}],
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}],
            "53/udp": [{"HostIp": "1\u{1b}[2J", "HostPort": "53"}],
        });
        let lines = published(&ports);
        let lines: Vec<_> = lines.iter().map(|(port, at)| format!("{port} -> {at}")).collect();
        assert_eq!(
            lines,
            [
                "53/udp -> 1:53",
                "80/tcp -> 0.0.0.0:8080",
                "9000/tcp -> 0.0.0.0:1",
                "9000/tcp -> [::]:1"
            ]
        );
        assert!(published(&Value::Null).is_empty());
    }

    #[test]
    fn hostile_paths_and_processes_are_cleaned() {
        let change = |path: &str, kind: FileChangeKind| dockctl_api::v1::FileChange {
            path: path.to_owned(),
            kind: kind.into(),
        };
        let listed = DiffContainerResponse {
            changes: vec![
                change("/a\u{1b}]0;x\u{7}\nb", FileChangeKind::Added),
                change("/c", FileChangeKind::Deleted),
            ],
        };
        assert_eq!(changes(&listed), "A /a b\nD /c\n");
        let listed = ListProcessesResponse {
            titles: vec!["PID".to_owned(), "CMD".to_owned()],
            rows: vec![dockctl_api::v1::ProcessRow {
                cells: vec!["1".to_owned(), "sh \u{1b}[31m".to_owned()],
            }],
        };
        assert_eq!(processes(&listed), "PID                 CMD\n1                   sh\n");
    }
}
