//! What the engine's things take on the disk, and its build cache.

use dockctl_api::v1::{PruneBuildCacheRequest, PruneBuildCacheResponse};
use http::Method;
use serde::Deserialize;
use tonic::Status;

use super::{Engine, fault::Call, filters, query::Query, wire::LONG};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: Option<u64>,
}

impl Engine {
    /// What images, containers, volumes and the build cache take: the engine's own JSON, untouched.
    /// It walks through all of them, which takes minutes on a slow disk.
    pub(crate) async fn disk_usage(&self) -> Result<String, Status> {
        let call = Call::new("GET /system/df");
        let answer = self.send(call, LONG, Method::GET, "/system/df", None).await?;
        Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
    }

    /// Removes what the engine's builder has kept.
    pub(crate) async fn prune_build_cache(
        &self,
        request: &PruneBuildCacheRequest,
    ) -> Result<PruneBuildCacheResponse, Status> {
        let mut query = Query::default();
        query.flag("all", request.all);
        query.add("filters", &filters::json("filters", &request.filters)?);
        if request.keep_storage > 0 {
            query.add("keep-storage", &request.keep_storage.to_string());
        }
        let call = Call::new("POST /build/prune");
        let pruned: Pruned = self.change(call, &query.on("/build/prune"), None, LONG).await?;
        Ok(PruneBuildCacheResponse {
            deleted: pruned.caches_deleted.unwrap_or_default(),
            space_reclaimed: pruned.space_reclaimed.unwrap_or(0),
        })
    }
}
