//! `version`, `ping`, `info`: who answers, how fast, and what an engine tells of itself.

use std::time::Instant;

use dockctl_api::v1::{
    GetInfoRequest, GetVersionRequest, GetVersionResponse, PingRequest,
    system_service_client::SystemServiceClient,
};
use serde_json::{Value, json};

use super::{Ctx, agents::facts};
use crate::{
    args,
    error::{Error, Exit, Result},
    output::{clean, human, json},
    resolve,
};

/// `dockctl version`. The client's own version is printed even where nobody answers.
pub(crate) async fn version(ctx: &Ctx, args: args::Version) -> Result<()> {
    let agent = args.on.unwrap_or_default();
    let call = ctx.session.ask(|channel| {
        let request = GetVersionRequest { agent: agent.clone() };
        async move { SystemServiceClient::new(channel).get_version(request).await }
    });
    let answer = ctx.wait("asking for the version", call).await;
    let server = if agent.is_empty() { "controller" } else { "agent" };
    let other = answer.as_ref().ok();
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
    match answer {
        Ok(_) => Ok(()),
        Err(error) if agent.is_empty() => Err(error),
        Err(error) => Err(resolve::explain_agent(&ctx.session, &agent, error).await),
    }
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

/// `dockctl info AGENT`.
pub(crate) async fn info(ctx: &Ctx, args: args::Info) -> Result<()> {
    let call = ctx.session.ask(|channel| {
        let request = GetInfoRequest { agent: args.agent.clone() };
        async move { SystemServiceClient::new(channel).get_info(request).await }
    });
    let answer = match ctx.wait("asking the engine", call).await {
        Ok(answer) => answer,
        Err(error) => return Err(resolve::explain_agent(&ctx.session, &args.agent, error).await),
    };
    let info: Value = serde_json::from_str(&answer.json)
        .map_err(|e| Error::new(Exit::Failed, format!("the engine's answer is no JSON: {e}")))?;
    ctx.show_value(|| Ok(info.clone()), || summary(&info))
}

/// What people look for in `docker info`; `-o json` has all of it.
fn summary(info: &Value) -> String {
    let text = |key: &str| match &info[key] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let containers = format!(
        "{} ({} running, {} paused, {} stopped)",
        text("Containers"),
        text("ContainersRunning"),
        text("ContainersPaused"),
        text("ContainersStopped")
    );
    facts(&[
        ("name", text("Name")),
        ("engine", text("ServerVersion")),
        ("system", text("OperatingSystem")),
        ("kernel", text("KernelVersion")),
        ("architecture", text("Architecture")),
        ("CPUs", text("NCPU")),
        ("memory", info["MemTotal"].as_u64().map(human::binary_size).unwrap_or_default()),
        ("containers", containers),
        ("images", text("Images")),
        ("storage driver", text("Driver")),
        ("logging driver", text("LoggingDriver")),
        ("docker root", text("DockerRootDir")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_what_the_engine_has() {
        let info = json!({"Name": "web\x1b[2J", "NCPU": 2, "MemTotal": 2_147_483_648u64});
        let text = summary(&info);
        assert!(text.contains("name         web\n"), "{text}");
        assert!(text.contains("memory       2GiB\n"), "{text}");
        assert!(!text.contains("kernel"), "{text}");
    }
}
