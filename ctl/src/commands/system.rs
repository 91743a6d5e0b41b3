//! `version`, `ping`, `info`: who answers, how fast, and what an engine tells of itself.

use std::time::Instant;

use dockctl_api::v1::{
    GetInfoRequest, GetVersionRequest, GetVersionResponse, PingRequest,
    system_service_client::SystemServiceClient,
};
use serde_json::{Value, json};

use super::{Ctx, agents::facts, host};
use crate::{
    args::{self, images::On},
    error::Result,
    format::Template,
    output::{clean, human, json},
    resolve,
};

/// `dockctl version`. The client's own version is printed even where nobody answers.
pub(crate) async fn version(ctx: &Ctx, args: args::Version) -> Result<()> {
    let template = Template::of_one(args.format.as_deref())?;
    let agent = args.on.unwrap_or_default();
    let call = ctx.session.ask(|channel| {
        let request = GetVersionRequest { agent: agent.clone() };
        async move { SystemServiceClient::new(channel).get_version(request).await }
    });
    let answer = ctx.wait("asking for the version", call).await;
    let server = if agent.is_empty() { "controller" } else { "agent" };
    let other = answer.as_ref().ok();
    if let Some(template) = template {
        let made = template.value(&sides(server, other))?;
        ctx.print_made(made)?;
    } else {
        ctx.show_value(
            || {
                let shown = other.map(|o| json::value("GetVersionResponse", o)).transpose()?;
                Ok(json!({
                    "client": {"version": dockctl_api::VERSION},
                    server: shown.unwrap_or(Value::Null),
                }))
            },
            || {
                let mut lines = vec![("client", dockctl_api::VERSION.to_owned())];
                lines.extend(other.map(|o| (server, told(o))));
                lines.extend(other.map(|o| ("engine", engine(o))));
                facts(&lines)
            },
        )?;
    }
    match answer {
        Ok(_) => Ok(()),
        Err(error) if agent.is_empty() => Err(error),
        Err(error) => Err(resolve::explain_agent(&ctx.session, &agent, error).await),
    }
}

/// Both sides under docker's names: the server is the engine where an agent has answered.
fn sides(who: &str, other: Option<&GetVersionResponse>) -> Value {
    let mut all = json!({"Client": {"Version": dockctl_api::VERSION}});
    if let Some(o) = other {
        let (os, arch) = o.platform.split_once('/').unwrap_or((&o.platform, ""));
        let name = if who == "agent" { "Agent" } else { "Controller" };
        all[name] = json!({"Version": o.version, "Revision": o.revision});
        if !o.engine_version.is_empty() {
            all["Server"] = json!({
                "Version": o.engine_version, "ApiVersion": o.engine_api_version, "Os": os, "Arch": arch,
            });
        }
    }
    all
}

fn told(version: &GetVersionResponse) -> String {
    let mut parts = vec![version.version.clone()];
    parts.extend([&version.revision, &version.platform].into_iter().cloned());
    parts.retain(|p| !p.is_empty());
    parts.join(", ")
}

fn engine(version: &GetVersionResponse) -> String {
    match version.engine_version.as_str() {
        "" => String::new(),
        engine => format!("{engine} (API {})", version.engine_api_version),
    }
}

/// `dockctl ping [AGENT]`: the time of one call on a connection that is open already.
pub(crate) async fn ping(ctx: &Ctx, args: args::Ping) -> Result<()> {
    let agent = args.agent.unwrap_or_default();
    let call = || {
        ctx.session.ask(|channel| {
            let request = PingRequest { agent: agent.clone() };
            async move { SystemServiceClient::new(channel).ping(request).await }
        })
    };
    let measure = async {
        call().await?; // connects
        let begin = Instant::now();
        call().await.map(|answer| (answer, begin.elapsed()))
    };
    let (answer, took) = match ctx.wait("pinging", measure).await {
        Ok(measured) => measured,
        Err(error) if agent.is_empty() => return Err(error),
        Err(error) => return Err(resolve::explain_agent(&ctx.session, &agent, error).await),
    };
    let who = if agent.is_empty() { "controller" } else { &agent };
    let took = prost_types::Duration::try_from(took).ok();
    let seconds = |d: &prost_types::Duration| d.seconds as f64 + f64::from(d.nanos) / 1e9;
    ctx.show_value(
        || {
            Ok(json!({
                "from": who,
                "seconds": took.as_ref().map(seconds),
                "engine_seconds": answer.engine_latency.as_ref().map(seconds),
            }))
        },
        || {
            let engine = match &answer.engine_latency {
                Some(latency) => format!(" (engine {})", human::millis(Some(latency))),
                None => String::new(),
            };
            format!("{}: {}{engine}\n", clean(who), human::millis(took.as_ref()))
        },
    )
}

/// `dockctl info [AGENT]`, and `system info`.
pub(crate) async fn info(ctx: &Ctx, args: args::Info) -> Result<()> {
    let template = Template::of_one(args.format.as_deref())?;
    let on = On { on: args.agent.or(args.on.on) };
    let agent = host::agent(ctx, &on).await?;
    let answer = host::ask(ctx, &agent, "asking the engine", |channel| {
        let request = GetInfoRequest { agent: agent.clone() };
        async move { SystemServiceClient::new(channel).get_info(request).await }
    });
    let info = host::json(&answer.await?.json)?;
    if let Some(template) = template {
        return ctx.print_made(template.value(&info)?);
    }
    ctx.show_value(|| Ok(info.clone()), || summary(&info))?;
    for warning in info["Warnings"].as_array().into_iter().flatten() {
        ctx.term.notice(&clean(warning.as_str().unwrap_or_default()));
    }
    Ok(())
}

/// What `docker info` prints of its server, in its words; `-o json` has all of it.
fn summary(info: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => clean(text),
        Value::Null => String::new(),
        other => clean(&other.to_string()),
    };
    let mut out = String::from("Server:\n");
    let mut line = |depth: usize, name: &str, value: String| {
        // docker leaves no trailing space either where there is nothing to say.
        if !value.is_empty() {
            out.push_str(&format!("{}{name}: {value}\n", " ".repeat(depth)));
        }
    };
    for (depth, name, key) in [
        (1, "Containers", "Containers"),
        (2, "Running", "ContainersRunning"),
        (2, "Paused", "ContainersPaused"),
        (2, "Stopped", "ContainersStopped"),
        (1, "Images", "Images"),
        (1, "Server Version", "ServerVersion"),
        (1, "Storage Driver", "Driver"),
    ] {
        line(depth, name, text(&info[key]));
    }
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        line(2, &text(&pair[0]), text(&pair[1]));
    }
    for (name, key) in [
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
        ("Default Runtime", "DefaultRuntime"),
        ("Init Binary", "InitBinary"),
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        line(1, name, text(&info[key]));
    }
    line(1, "Total Memory", info["MemTotal"].as_u64().map(human::binary_size).unwrap_or_default());
    for (name, key) in [
        ("Name", "Name"),
        ("ID", "ID"),
        ("Docker Root Dir", "DockerRootDir"),
        ("Debug Mode", "Debug"),
        ("HTTP Proxy", "HttpProxy"),
        ("HTTPS Proxy", "HttpsProxy"),
        ("No Proxy", "NoProxy"),
        ("Experimental", "ExperimentalBuild"),
        ("Live Restore Enabled", "LiveRestoreEnabled"),
    ] {
        line(1, name, text(&info[key]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_what_the_engine_has() {
        let info = json!({"Name": "web\x1b[2J", "NCPU": 2, "MemTotal": 2_147_483_648u64});
        let text = summary(&info);
        assert_eq!(text, "Server:\n CPUs: 2\n Total Memory: 2GiB\n Name: web\n");
    }
}
