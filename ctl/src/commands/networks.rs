//! `networks` on one host, in docker's columns and words.

use dockctl_api::{
    error::reason,
    v1::{
        ConnectNetworkRequest, CreateNetworkRequest, DisconnectNetworkRequest,
        InspectNetworkRequest, ListNetworksRequest, Network, PruneNetworksRequest,
        PruneNetworksResponse, RemoveNetworkRequest, Subnet,
        network_service_client::NetworkServiceClient,
    },
};

use super::{Ctx, host, volumes::deleted};
use crate::{
    args::{
        images::{On, Pruning},
        stores::{CreateNetwork, List, Networks},
    },
    client::LARGEST_ANSWER,
    error::{Error, Result},
    output::{clean, human, table::Table},
};

/// `dockctl networks`.
pub(crate) async fn run(ctx: &Ctx, args: Networks) -> Result<()> {
    match args {
        Networks::Ls { list: args, no_trunc } => list(ctx, args, no_trunc).await,
        Networks::Create(args) => create(ctx, *args).await,
        Networks::Inspect { on, networks } => {
            let agent = host::agent(ctx, &on).await?;
            host::inspect(ctx, &networks, async |network| inspect(ctx, &agent, network).await).await
        }
        Networks::Rm { on, force, networks } => remove(ctx, &on, force, &networks).await,
        Networks::Prune(args) => prune(ctx, args).await,
        Networks::Connect { on, alias, ip, ip6, network, container } => {
            let agent = host::agent(ctx, &on).await?;
            let request = ConnectNetworkRequest {
                agent: agent.clone(),
                network,
                container,
                aliases: alias,
                ipv4_address: ip,
                ipv6_address: ip6,
            };
            let call = host::ask(ctx, &agent, "connecting", |channel| {
                let request = request.clone();
                async move { NetworkServiceClient::new(channel).connect_network(request).await }
            });
            call.await.map(drop)
        }
        Networks::Disconnect { on, force, network, container } => {
            let agent = host::agent(ctx, &on).await?;
            let request =
                DisconnectNetworkRequest { agent: agent.clone(), network, container, force };
            let call = host::ask(ctx, &agent, "disconnecting", |channel| {
                let request = request.clone();
                async move { NetworkServiceClient::new(channel).disconnect_network(request).await }
            });
            call.await.map(drop)
        }
    }
}

async fn list(ctx: &Ctx, args: List, whole: bool) -> Result<()> {
    let agent = host::agent(ctx, &args.on).await?;
    let request = ListNetworksRequest { agent: agent.clone(), filters: args.filter };
    let answer = host::ask(ctx, &agent, "listing networks", |channel| {
        let request = request.clone();
        async move {
            NetworkServiceClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER)
                .list_networks(request)
                .await
        }
    });
    let networks = answer.await?.networks;
    ctx.show_list("Network", &networks, || match args.quiet {
        true => networks.iter().map(|n| clean(id(n, whole)) + "\n").collect(),
        false => table(&networks, whole).render(ctx.term.color()),
    })
}

fn id(network: &Network, whole: bool) -> &str {
    if whole { &network.id } else { human::short_id(&network.id) }
}

fn table(networks: &[Network], whole: bool) -> Table {
    let mut table = Table::new(&["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
    for network in networks {
        table.row(vec![
            id(network, whole).into(),
            network.name.as_str().into(),
            network.driver.as_str().into(),
            network.scope.as_str().into(),
        ]);
    }
    table
}

async fn create(ctx: &Ctx, args: CreateNetwork) -> Result<()> {
    let subnets = subnets(&args)?;
    let agent = host::agent(ctx, &args.on).await?;
    let request = CreateNetworkRequest {
        agent: agent.clone(),
        name: args.name,
        driver: args.driver,
        options: host::pairs(&args.options),
        labels: host::pairs(&args.labels),
        internal: args.internal,
        attachable: args.attachable,
        ipv6: args.ipv6,
        subnets,
    };
    let made = host::ask(ctx, &agent, "making the network", |channel| {
        let request = request.clone();
        async move { NetworkServiceClient::new(channel).create_network(request).await }
    });
    let made = made.await?;
    if !made.warning.is_empty() {
        ctx.term.notice(&format!("{}: {}", clean(&agent), clean(&made.warning)));
    }
    ctx.show("CreateNetworkResponse", &made, || clean(&made.id) + "\n")
}

/// The n-th gateway and part belong to the n-th range.
fn subnets(args: &CreateNetwork) -> Result<Vec<Subnet>> {
    if args.gateway.len() > args.subnet.len() || args.ip_range.len() > args.subnet.len() {
        return Err(Error::usage("every --gateway and --ip-range needs a --subnet"));
    }
    let nth = |list: &[String], n: usize| list.get(n).cloned().unwrap_or_default();
    let subnets = args.subnet.iter().enumerate().map(|(n, subnet)| Subnet {
        subnet: subnet.clone(),
        gateway: nth(&args.gateway, n),
        ip_range: nth(&args.ip_range, n),
    });
    Ok(subnets.collect())
}

pub(super) async fn inspect(ctx: &Ctx, agent: &str, network: &str) -> Result<String> {
    let request = InspectNetworkRequest { agent: agent.to_owned(), network: network.to_owned() };
    let answer = host::ask(ctx, agent, "inspecting", |channel| {
        let request = request.clone();
        async move {
            NetworkServiceClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER)
                .inspect_network(request)
                .await
        }
    });
    Ok(answer.await?.json)
}

async fn remove(ctx: &Ctx, on: &On, force: bool, networks: &[String]) -> Result<()> {
    let agent = host::agent(ctx, on).await?;
    let one = async |network: &str| {
        let request = RemoveNetworkRequest { agent: agent.clone(), network: network.to_owned() };
        let call = host::ask(ctx, &agent, "removing", |channel| {
            let request = request.clone();
            async move { NetworkServiceClient::new(channel).remove_network(request).await }
        });
        match call.await {
            Err(error) if force && error.has_reason(reason::NOT_FOUND) => Ok(String::new()),
            result => result.map(|_| clean(network) + "\n"),
        }
    };
    host::each(ctx, networks, one).await
}

async fn prune(ctx: &Ctx, args: Pruning) -> Result<()> {
    let agent = host::agent(ctx, &args.on).await?;
    let warning = format!(
        "This will remove all custom networks not used by at least one container on {}.",
        clean(&agent)
    );
    host::confirm_prune(ctx, args.force, &warning)?;
    let gone = prune_on(ctx, PruneNetworksRequest { agent, filters: args.filter }).await?;
    ctx.show("PruneNetworksResponse", &gone, || deleted("Networks", &gone.deleted))
}

/// Removes unused networks.
pub(super) async fn prune_on(
    ctx: &Ctx,
    request: PruneNetworksRequest,
) -> Result<PruneNetworksResponse> {
    host::ask_within(ctx, &request.agent, "removing networks", host::LONG, |channel| {
        let request = request.clone();
        async move { NetworkServiceClient::new(channel).prune_networks(request).await }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_dockers() {
        let network = Network {
            id: "0123456789abcdef".to_owned(),
            name: "n".to_owned(),
            driver: "bridge".to_owned(),
            scope: "local".to_owned(),
            ..Network::default()
        };
        assert_eq!(
            table(&[network], false).render(false),
            "NETWORK ID     NAME   DRIVER   SCOPE\n0123456789ab   n      bridge   local\n"
        );
    }
}
