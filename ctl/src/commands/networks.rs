//! `networks` on one host, in docker's columns and words.

use std::net::IpAddr;

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
        Output,
        images::{On, Pruning},
        stores::{CreateNetwork, List, Networks},
    },
    client::LARGEST_ANSWER,
    error::{Error, Result},
    format::{self, Row, Template},
    output::{clean, human, table::Table},
    refs::Ref,
};

/// `dockctl networks`.
pub(crate) async fn run(ctx: &Ctx, args: Networks) -> Result<()> {
    match args {
        Networks::Ls { list: args, no_trunc } => list(ctx, args, no_trunc).await,
        Networks::Create(args) => create(ctx, *args).await,
        Networks::Inspect { on, format, networks } => {
            let agent = host::agent(ctx, &on).await?;
            let one = async |network: &str| inspect(ctx, &agent, network).await;
            host::inspect(ctx, &networks, format.as_deref(), one).await
        }
        Networks::Rm { on, force, networks } => remove(ctx, &on, force, &networks).await,
        Networks::Prune(args) => prune(ctx, args).await,
        Networks::Connect {
            on,
            alias,
            ip,
            ip6,
            link_local_ip,
            link,
            driver_opt,
            network,
            container,
        } => {
            let agent = host_of(ctx, &on, &container).await?;
            let request = ConnectNetworkRequest {
                agent: agent.clone(),
                network,
                container: container.container,
                aliases: alias,
                ipv4_address: ip,
                ipv6_address: ip6,
                driver_options: host::pairs(&driver_opt),
                links: link,
                link_local_ips: link_local_ip,
            };
            let call = host::ask(ctx, &agent, "connecting", |channel| {
                let request = request.clone();
                async move { NetworkServiceClient::new(channel).connect_network(request).await }
            });
            call.await.map(drop)
        }
        Networks::Disconnect { on, force, network, container } => {
            let agent = host_of(ctx, &on, &container).await?;
            let request = DisconnectNetworkRequest {
                agent: agent.clone(),
                network,
                container: container.container,
                force,
            };
            let call = host::ask(ctx, &agent, "disconnecting", |channel| {
                let request = request.clone();
                async move { NetworkServiceClient::new(channel).disconnect_network(request).await }
            });
            call.await.map(drop)
        }
    }
}

/// The agent that --on names or that stands before the container's name; both must not differ.
async fn host_of(ctx: &Ctx, on: &On, container: &Ref) -> Result<String> {
    match (&on.on, &container.host) {
        (Some(on), Some(host)) if on != host => Err(Error::usage(format!(
            "--on {} and {} are different hosts",
            clean(on),
            clean(&container.to_string())
        ))),
        (None, Some(host)) => Ok(host.clone()),
        _ => host::agent(ctx, on).await,
    }
}

const COLUMNS: [(&str, &str); 10] = [
    ("Agent", "HOST"),
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

/// A network under docker's names.
fn row(network: &Network, whole: bool) -> Row {
    let fields = [
        ("Agent", network.agent.clone()),
        ("ID", id(network, whole).to_owned()),
        ("Name", network.name.clone()),
        ("Driver", network.driver.clone()),
        ("Scope", network.scope.clone()),
        ("IPv4", network.ipv4.to_string()),
        ("IPv6", network.ipv6.to_string()),
        ("Internal", network.internal.to_string()),
        ("Labels", super::labels(&network.labels)),
        ("CreatedAt", format::time(network.created_at.as_ref())),
    ];
    Row::new(fields, &network.labels)
}

async fn list(ctx: &Ctx, args: List, whole: bool) -> Result<()> {
    let template = Template::of_list(args.format.as_deref())?;
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
    if let Some(template) = template.filter(|_| !args.quiet) {
        let rows: Vec<Row> = networks.iter().map(|n| row(n, whole)).collect();
        return ctx.print_made(template.rows(&COLUMNS, &rows)?);
    }
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
        options: host::pairs(&Output::texts(&args.options)),
        labels: host::pairs(&args.labels),
        internal: args.internal,
        attachable: args.attachable,
        ipv6: args.ipv6,
        subnets,
        ipam_driver: args.ipam_driver,
        ipam_options: host::pairs(&args.ipam_opt),
        config_from: args.config_from,
        config_only: args.config_only,
        ingress: args.ingress,
        scope: args.scope,
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
    let mut aux = host::pairs(&args.aux_address);
    let nth = |list: &[String], n: usize| list.get(n).cloned().unwrap_or_default();
    let mut subnets = Vec::new();
    for (n, subnet) in args.subnet.iter().enumerate() {
        // An address belongs to the range that it is in.
        let own = aux.extract_if(|_, address| within(subnet, address)).collect();
        subnets.push(Subnet {
            subnet: subnet.clone(),
            gateway: nth(&args.gateway, n),
            ip_range: nth(&args.ip_range, n),
            aux_addresses: own,
        });
    }
    match aux.into_values().next() {
        None => Ok(subnets),
        Some(address) => {
            Err(Error::usage(format!("no matching subnet for aux-address {}", clean(&address))))
        }
    }
}

/// Whether an address is in a range such as 10.1.0.0/16.
fn within(range: &str, address: &str) -> bool {
    let bits = |text: &str| {
        let address: IpAddr = text.parse().ok()?;
        Some(match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        })
    };
    let inside = || {
        let (net, len) = range.split_once('/')?;
        let ((net, most), (address, kind)) = (bits(net)?, bits(address)?);
        let len: u32 = len.parse().ok().filter(|len| *len <= most)?;
        let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
        Some(most == kind && net & mask == address & mask)
    };
    inside().unwrap_or(false)
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
    fn an_address_is_in_its_range() {
        for (range, address, is) in [
            ("10.1.0.0/16", "10.1.200.3", true),
            ("10.1.0.0/16", "10.2.0.3", false),
            ("0.0.0.0/0", "10.2.0.3", true),
            ("fd00::/64", "fd00::5", true),
            ("fd00::/64", "10.2.0.3", false),
            ("10.1.0.0", "10.1.0.0", false),
            ("10.1.0.0/99", "10.1.0.0", false),
        ] {
            assert_eq!(within(range, address), is, "{range} {address}");
        }
    }

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
