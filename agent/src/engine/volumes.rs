//! Volumes, in the API's own types.

use std::collections::HashMap;

use dockctl_api::{
    error::{reason, status},
    v1::{
        CreateVolumeRequest, ListVolumesResponse, PruneVolumesRequest, PruneVolumesResponse, Volume,
    },
};
use http::Method;
use prost_types::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tonic::{Code, Status};

use super::{Engine, fault::Call, filters, names, query::Query, wire::LONG};

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
        let path = filters::on("/volumes", filters)?;
        let listed: Listed = self.look_at(Call::new("GET /volumes"), &path).await?;
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
        let (call, body) = (Call::new("POST /volumes/create"), body.to_string());
        let told: Told = self.change(call, "/volumes/create", Some(&body), self.limit).await?;
        Ok(told.into())
    }

    /// Removes a volume that no container uses.
    pub(crate) async fn remove_volume(&self, volume: &str, force: bool) -> Result<(), Status> {
        let mut query = Query::default();
        query.flag("force", force);
        let path = query.on(&format!("/volumes/{}", names::volume("volume", volume)?));
        let call = Call::new("DELETE /volumes/{name}");
        self.send(call, LONG, Method::DELETE, &path, None).await.map(drop)
    }

    /// Removes volumes that no container uses.
    pub(crate) async fn prune_volumes(
        &self,
        request: &PruneVolumesRequest,
    ) -> Result<PruneVolumesResponse, Status> {
        let call = Call::new("POST /volumes/prune");
        let api = self.api(call).await?;
        if !request.all && api < 42 {
            return self.prune_anonymous(&request.filters).await;
        }
        let mut filters = request.filters.clone();
        if request.all && api >= 42 {
            filters.push("all=true".to_owned());
        }
        let path = filters::on("/volumes/prune", &filters)?;
        let pruned: Pruned = self.change(call, &path, None, LONG).await?;
        Ok(PruneVolumesResponse {
            deleted: pruned.volumes_deleted.unwrap_or_default(),
            space_reclaimed: pruned.space_reclaimed.unwrap_or(0),
        })
    }

    /// An engine before API 1.42 would remove named volumes too and cannot be told to spare them, so the
    /// anonymous ones are found by their names, 64 hexadecimal digits, and removed one by one.
    async fn prune_anonymous(&self, filters: &[String]) -> Result<PruneVolumesResponse, Status> {
        if let Some(filter) = filters.iter().find(|filter| !filter.starts_with("label=")) {
            let why = format!("this engine cannot filter anonymous volumes by {filter:?}");
            return Err(status(Code::FailedPrecondition, reason::DOCKER_ERROR, why, &[]));
        }
        let dangling = [filters, &["dangling=true".to_owned()]].concat();
        let mut names: Vec<String> =
            self.list_volumes(&dangling).await?.volumes.into_iter().map(|v| v.name).collect();
        names.retain(|name| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()));
        let mut gone = PruneVolumesResponse::default();
        if names.is_empty() {
            return Ok(gone);
        }
        let usage: Usage =
            self.read(Call::new("GET /system/df"), self.disk_usage().await?.as_bytes())?;
        for name in names {
            match self.remove_volume(&name, false).await {
                Ok(()) => {
                    let volumes = usage.volumes.iter().flatten();
                    let size = volumes.filter(|v| v.name == name).map(|v| v.usage_data.size);
                    // An unknown size is -1.
                    gone.space_reclaimed += u64::try_from(size.sum::<i64>()).unwrap_or(0);
                    gone.deleted.push(name);
                }
                // It was taken into use, or removed, meanwhile.
                Err(s) if matches!(s.code(), Code::FailedPrecondition | Code::NotFound) => {}
                Err(status) => return Err(status),
            }
        }
        Ok(gone)
    }
}

/// The part of the engine's disk usage that is read here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    volumes: Option<Vec<Measured>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Measured {
    name: String,
    usage_data: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Bytes {
    size: i64,
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

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Reply, usual, version};
    use super::*;

    #[tokio::test]
    async fn newer_engines_spare_named_volumes_themselves() {
        let fake = Fake::new(|request| match request {
            "GET /version" => version("1.44", "1.24"),
            request if request.starts_with("POST /volumes/prune") => {
                Reply::Json(200, r#"{"VolumesDeleted":["v"],"SpaceReclaimed":5}"#.to_owned())
            }
            other => usual(other),
        });
        let engine = fake.engine();
        for (all, filters) in [(false, "%7B%7D"), (true, "%7B%22all%22%3A%5B%22true%22%5D%7D")] {
            let request = PruneVolumesRequest { all, ..PruneVolumesRequest::default() };
            let gone = engine.prune_volumes(&request).await.unwrap();
            assert_eq!((gone.deleted, gone.space_reclaimed), (vec!["v".to_owned()], 5));
            let asked = fake.requests().pop().unwrap();
            assert_eq!(asked, format!("POST /v1.44/volumes/prune?filters={filters}"));
        }
    }
}
