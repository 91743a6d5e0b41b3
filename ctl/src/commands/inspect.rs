//! `inspect`: the engine's own JSON, one array of all containers named, as docker prints it, or what a
//! template makes of each.

use dockctl_api::v1::{InspectContainerRequest, container_service_client::ContainerServiceClient};
use serde_json::Value;

use super::{Ctx, act, host};
use crate::{
    args,
    client::LARGEST_ANSWER,
    error::{Error, Exit, Result},
    format::Template,
    resolve::Target,
};

/// `dockctl inspect REF...`. The array has the containers that could be shown, in the order named.
pub(crate) async fn run(ctx: &Ctx, args: args::Inspect) -> Result<()> {
    let template = Template::of_one(args.format.as_deref())?;
    let results = act::each(
        ctx,
        &args.refs.containers,
        async |target| inspect(ctx, &target).await,
        |_, _| (),
    )
    .await;
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => shown.push(value),
            Err(error) => failures.push(error),
        }
    }
    host::show_inspected(ctx, template.as_ref(), shown)?;
    act::fail(ctx, failures)
}

/// All that the engine knows of a container.
pub(super) async fn inspect(ctx: &Ctx, target: &Target) -> Result<Value> {
    let request = InspectContainerRequest {
        agent: target.agent.clone(),
        container: target.container.clone(),
    };
    let answer = ctx
        .session
        .ask(|channel| {
            let request = request.clone();
            async move {
                ContainerServiceClient::new(channel)
                    .max_decoding_message_size(LARGEST_ANSWER)
                    .inspect_container(request)
                    .await
            }
        })
        .await?;
    serde_json::from_str(&answer.json)
        .map_err(|e| Error::new(Exit::Failed, format!("the engine's answer is no JSON: {e}")))
}
