//! Volumes, in the API's own types.

use std::collections::HashMap;

use dockctl_api::v1::{
    CreateVolumeRequest, ListVolumesResponse, PruneVolumesRequest, PruneVolumesResponse, Volume,
};
use http::Method;
use prost_types::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tonic::Status;

use super::{
    Engine,
    fault::{Call, Fault},
    filters,
    images::REMOVAL,
    names::{self, encode},
    wire::TIMEOUT,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    volumes: Option<Vec<Told>>,
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    name: String,
    driver: String,
    mountpoint: Option<String>,
    labels: Option<HashMap<String, String>>,
    scope: Option<String>,
    created_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    volumes_deleted: Option<Vec<String>>,
    space_reclaimed: Option<u64>,
}

impl Engine {
    /// Lists volumes, ordered by name, without their agent's name.
    pub(crate) async fn list_volumes(
        &self,
        filters: &[String],
    ) -> Result<ListVolumesResponse, Status> {
        let path = format!("/volumes?filters={}", encode(&filters::json("filters", filters)?));
        let listed = self.wire.get_json::<Listed>(&path).await;
        let listed = listed.map_err(|fault| self.wire.status(&fault, Call::new("GET /volumes")))?;
        let mut volumes: Vec<Volume> =
            listed.volumes.unwrap_or_default().into_iter().map(Volume::from).collect();
        volumes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(ListVolumesResponse { volumes, warnings: listed.warnings.unwrap_or_default() })
    }

    /// All that the engine knows of a volume: its own JSON, untouched.
    pub(crate) async fn inspect_volume(&self, volume: &str) -> Result<String, Status> {
        let path = format!("/volumes/{}", names::volume("volume", volume)?);
        self.json(&path, Call::new("GET /volumes/{name}")).await
    }

    /// Makes a volume.
    pub(crate) async fn create_volume(
        &self,
        request: &CreateVolumeRequest,
    ) -> Result<Volume, Status> {
        if !request.name.is_empty() {
            names::volume("name", &request.name)?;
        }
        let body = json!({
            "Name": request.name,
            "Driver": if request.driver.is_empty() { "local" } else { &request.driver },
            "DriverOpts": request.options,
            "Labels": request.labels,
        });
        let call = Call::new("POST /volumes/create");
        let answer = self
            .send(Method::POST, call, "/volumes/create", Some(&body.to_string()), TIMEOUT)
            .await?;
        self.read::<Told>(call, &answer).map(Volume::from)
    }

    /// Removes a volume that no container uses.
    pub(crate) async fn remove_volume(&self, volume: &str, force: bool) -> Result<(), Status> {
        let path = format!("/volumes/{}?force={force}", names::volume("volume", volume)?);
        let call = Call::new("DELETE /volumes/{name}");
        self.send(Method::DELETE, call, &path, None, REMOVAL).await.map(drop)
    }

    /// Removes volumes that no container uses.
    pub(crate) async fn prune_volumes(
        &self,
        request: &PruneVolumesRequest,
    ) -> Result<PruneVolumesResponse, Status> {
        let call = Call::new("POST /volumes/prune");
        let api = self.wire.api().await.map_err(Fault::unsent);
        let api = api.map_err(|fault| self.wire.status(&fault, call))?;
        let filters = prune_filters(request, api)?;
        let path = format!("/volumes/prune?filters={}", encode(&filters));
        let answer = self.send(Method::POST, call, &path, None, REMOVAL).await?;
        let pruned: Pruned = self.read(call, &answer)?;
        Ok(PruneVolumesResponse {
            deleted: pruned.volumes_deleted.unwrap_or_default(),
            space_reclaimed: pruned.space_reclaimed.unwrap_or(0),
        })
    }
}

/// An engine before API 1.42 removes named volumes always and does not know how to spare them.
fn prune_filters(request: &PruneVolumesRequest, api: u32) -> Result<String, Status> {
    let mut filters = request.filters.clone();
    if request.all && api >= 42 {
        filters.push("all=true".to_owned());
    }
    filters::json("filters", &filters)
}

impl From<Told> for Volume {
    fn from(volume: Told) -> Self {
        let created = volume.created_at.unwrap_or_default();
        Self {
            agent: String::new(),
            name: volume.name,
            driver: volume.driver,
            mountpoint: volume.mountpoint.unwrap_or_default(),
            labels: volume.labels.unwrap_or_default(),
            scope: volume.scope.unwrap_or_default(),
            created_at: created.parse::<Timestamp>().ok(),
        }
    }
}
