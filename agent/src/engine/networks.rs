//! Networks, in the API's own types.

use std::collections::HashMap;

use dockctl_api::v1::{
    ConnectNetworkRequest, CreateNetworkRequest, CreateNetworkResponse, DisconnectNetworkRequest,
    Network, Subnet,
};
use http::Method;
use prost_types::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::Status;

use super::{
    Engine,
    fault::Call,
    filters,
    names::{self, encode},
    wire::LONG,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    name: String,
    id: String,
    created: Option<String>,
    scope: Option<String>,
    driver: Option<String>,
    internal: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    ipv6: Option<bool>,
    #[serde(rename = "EnableIPv4")]
    ipv4: Option<bool>,
    labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    id: String,
    warning: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    networks_deleted: Option<Vec<String>>,
}

impl Engine {
    /// Lists networks, ordered by name, without their agent's name.
    pub(crate) async fn list_networks(&self, filters: &[String]) -> Result<Vec<Network>, Status> {
        let path = filters::on("/networks", filters)?;
        let listed: Vec<Told> = self.look_at(Call::new("GET /networks"), &path).await?;
        let mut networks: Vec<Network> = listed.into_iter().map(Network::from).collect();
        networks.sort_unstable_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(networks)
    }

    /// All that the engine knows of a network: its own JSON, untouched.
    pub(crate) async fn inspect_network(&self, network: &str) -> Result<String, Status> {
        let path = format!("/networks/{}", encode(names::network("network", network)?));
        self.json(&path, Call::new("GET /networks/{id}")).await
    }

    /// Makes a network.
    pub(crate) async fn create_network(
        &self,
        request: &CreateNetworkRequest,
    ) -> Result<CreateNetworkResponse, Status> {
        names::network("name", &request.name)?;
        let call = Call::new("POST /networks/create");
        let body = creation(request).to_string();
        let made: Made = self.change(call, "/networks/create", Some(&body), self.limit).await?;
        Ok(CreateNetworkResponse { id: made.id, warning: made.warning.unwrap_or_default() })
    }

    /// Removes a network that no container uses.
    pub(crate) async fn remove_network(&self, network: &str) -> Result<(), Status> {
        let path = format!("/networks/{}", encode(names::network("network", network)?));
        let call = Call::new("DELETE /networks/{id}");
        self.send(call, self.limit, Method::DELETE, &path, None).await.map(drop)
    }

    /// Connects a container to a network.
    pub(crate) async fn connect_network(
        &self,
        request: &ConnectNetworkRequest,
    ) -> Result<(), Status> {
        let network = encode(names::network("network", &request.network)?);
        let container = names::container("container", &request.container)?;
        let body = json!({
            "Container": container,
            "EndpointConfig": {
                "Aliases": request.aliases,
                "Links": request.links,
                "DriverOpts": request.driver_options,
                "IPAMConfig": {
                    "IPv4Address": request.ipv4_address,
                    "IPv6Address": request.ipv6_address,
                    "LinkLocalIPs": request.link_local_ips,
                },
            },
        });
        let call = Call::on("POST /networks/{id}/connect", container);
        let path = format!("/networks/{network}/connect");
        self.send(call, self.limit, Method::POST, &path, Some(&body.to_string())).await.map(drop)
    }

    /// Disconnects a container from a network.
    pub(crate) async fn disconnect_network(
        &self,
        request: &DisconnectNetworkRequest,
    ) -> Result<(), Status> {
        let network = encode(names::network("network", &request.network)?);
        let container = names::container("container", &request.container)?;
        let body = json!({"Container": container, "Force": request.force});
        let call = Call::on("POST /networks/{id}/disconnect", container);
        let path = format!("/networks/{network}/disconnect");
        self.send(call, self.limit, Method::POST, &path, Some(&body.to_string())).await.map(drop)
    }

    /// Removes networks that no container uses, and gives their names.
    pub(crate) async fn prune_networks(&self, filters: &[String]) -> Result<Vec<String>, Status> {
        let path = filters::on("/networks/prune", filters)?;
        let call = Call::new("POST /networks/prune");
        let pruned: Pruned = self.change(call, &path, None, LONG).await?;
        Ok(pruned.networks_deleted.unwrap_or_default())
    }
}

fn creation(request: &CreateNetworkRequest) -> Value {
    let subnets: Vec<Value> = request.subnets.iter().map(subnet).collect();
    let or = |text: &str, usual: &str| if text.is_empty() { usual } else { text }.to_owned();
    let mut body = json!({
        "Name": request.name,
        // Older engines would make a second network of the same name.
        "CheckDuplicate": true,
        "Driver": or(&request.driver, "bridge"),
        "Options": request.options,
        "Labels": request.labels,
        "Internal": request.internal,
        "Attachable": request.attachable,
        "EnableIPv6": request.ipv6,
        "IPAM": {
            "Driver": or(&request.ipam_driver, "default"),
            "Options": request.ipam_options,
            "Config": subnets,
        },
        "Ingress": request.ingress,
        "ConfigOnly": request.config_only,
        "Scope": request.scope,
    });
    if !request.config_from.is_empty() {
        body["ConfigFrom"] = json!({"Network": request.config_from});
    }
    body
}

fn subnet(subnet: &Subnet) -> Value {
    let parts =
        [("Subnet", &subnet.subnet), ("Gateway", &subnet.gateway), ("IPRange", &subnet.ip_range)];
    let given = parts.into_iter().filter(|(_, text)| !text.is_empty());
    let mut body: Value = given.map(|(k, v)| (k, v.as_str())).collect();
    if !subnet.aux_addresses.is_empty() {
        body["AuxiliaryAddresses"] = json!(subnet.aux_addresses);
    }
    body
}

impl From<Told> for Network {
    fn from(network: Told) -> Self {
        let created = network.created.unwrap_or_default();
        Self {
            agent: String::new(),
            id: network.id,
            name: network.name,
            driver: network.driver.unwrap_or_default(),
            scope: network.scope.unwrap_or_default(),
            internal: network.internal.unwrap_or(false),
            labels: network.labels.unwrap_or_default(),
            created_at: created.parse::<Timestamp>().ok(),
            ipv6: network.ipv6.unwrap_or(false),
            ipv4: network.ipv4.unwrap_or(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_asked_for_as_docker_asks() {
        let request = CreateNetworkRequest {
            name: "n".to_owned(),
            internal: true,
            subnets: vec![Subnet { subnet: "10.1.0.0/16".to_owned(), ..Subnet::default() }],
            ..CreateNetworkRequest::default()
        };
        let body = creation(&request);
        assert_eq!(body["Driver"], "bridge");
        assert_eq!(body["Internal"], true);
        assert_eq!(body["IPAM"]["Config"], json!([{"Subnet": "10.1.0.0/16"}]));
    }
}
