//! What is done with containers beyond starting and stopping them: make, change, remove, wait, look
//! inside. JSON from callers goes to the engine as it is, which knows best what it may say.

use std::{collections::HashMap, future::Future};

use bytes::Bytes;
use dockctl_api::{
    error::bad_field,
    v1::{
        CommitContainerRequest, ContainerExit, CreateContainerRequest, CreateContainerResponse,
        FileChange, FileChangeKind, ListProcessesResponse, ProcessRow, PruneContainersResponse,
        RemoveContainerRequest, WaitCondition,
    },
};
use futures_util::{Stream, StreamExt as _};
use http::Method;
use serde::{Deserialize, de::IgnoredAny};
use tonic::Status;

use super::{
    Engine,
    fault::{Call, Fault},
    filters, names,
    query::Query,
    raw::Raw,
    wire::LONG,
};

/// The longest name of a container or image that is sent on, bytes.
const MAX_NAME: usize = 255;

const WAIT: &str = "POST /containers/{id}/wait";

/// What the engine answers to calls that make or remove something; each has some of these.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    id: String,
    warnings: Option<Vec<String>>,
    containers_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    path: String,
    kind: i32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Top {
    titles: Option<Vec<String>>,
    processes: Option<Vec<Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exit {
    status_code: i64,
    error: Option<ExitError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExitError {
    message: String,
}

impl Engine {
    /// Makes a container; it does not start.
    pub async fn create(
        &self,
        request: &CreateContainerRequest,
    ) -> Result<CreateContainerResponse, Status> {
        check_object(&request.json)?;
        let mut query = Query::default();
        query.add("name", check_length("name", &request.name)?);
        query.add("platform", check_length("platform", &request.platform)?);
        let path = query.on("/containers/create");
        let call = Call::new("POST /containers/create");
        let made: Answer = self.change(call, &path, Some(&request.json), self.limit).await?;
        Ok(CreateContainerResponse { id: made.id, warnings: made.warnings.unwrap_or_default() })
    }

    /// Removes a container.
    pub async fn remove(&self, request: &RemoveContainerRequest) -> Result<(), Status> {
        // A link is named by its container and its alias.
        let container = match request.container.split_once('/') {
            Some((parent, alias)) if request.link => {
                names::container("container", parent)?;
                names::container("container", alias)?;
                &request.container
            }
            _ => names::container("container", &request.container)?,
        };
        let mut query = Query::default();
        query.flag("force", request.force);
        query.flag("v", request.volumes);
        query.flag("link", request.link);
        let path = query.on(&format!("/containers/{container}"));
        let call = Call::on("DELETE /containers/{id}", container);
        self.send(call, LONG, Method::DELETE, &path, None).await.map(drop)
    }

    /// Gives a container another name.
    pub async fn rename(&self, container: &str, name: &str) -> Result<(), Status> {
        names::container("container", container)?;
        let mut query = Query::default();
        query.add("name", check_length("name", name)?);
        let path = query.on(&format!("/containers/{container}/rename"));
        let call = Call::on("POST /containers/{id}/rename", container);
        self.send(call, self.limit, Method::POST, &path, None).await.map(drop)
    }

    /// Suspends all processes of a container.
    pub async fn pause(&self, container: &str) -> Result<(), Status> {
        names::container("container", container)?;
        let path = format!("/containers/{container}/pause");
        let call = Call::on("POST /containers/{id}/pause", container);
        self.send(call, self.limit, Method::POST, &path, None).await.map(drop)
    }

    /// Lets the processes of a paused container go on.
    pub async fn unpause(&self, container: &str) -> Result<(), Status> {
        names::container("container", container)?;
        let path = format!("/containers/{container}/unpause");
        let call = Call::on("POST /containers/{id}/unpause", container);
        self.send(call, self.limit, Method::POST, &path, None).await.map(drop)
    }

    /// Changes a container's limits and restart policy; what the engine warns of.
    pub async fn update(&self, container: &str, json: &str) -> Result<Vec<String>, Status> {
        names::container("container", container)?;
        check_object(json)?;
        let path = format!("/containers/{container}/update");
        let call = Call::on("POST /containers/{id}/update", container);
        let done: Answer = self.change(call, &path, Some(json), self.limit).await?;
        Ok(done.warnings.unwrap_or_default())
    }

    /// Waits for a container. The wait is registered at the engine when this returns; the future that it
    /// gives is the exit, and takes as long as the container does.
    pub async fn wait(
        &self,
        container: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = Result<ContainerExit, Status>> + Send + 'static + use<>, Status>
    {
        names::container("container", container)?;
        let condition = match condition {
            WaitCondition::Unspecified | WaitCondition::NotRunning => "not-running",
            WaitCondition::NextExit => "next-exit",
            WaitCondition::Removed => "removed",
        };
        let path = format!("/containers/{container}/wait?condition={condition}");
        let (engine, container) = (self.clone(), container.to_owned());
        let raw = Raw::request(&self.wire, "POST", &path, self.limit).await;
        let raw = raw.map_err(|fault| self.wire.status(&fault, Call::on(WAIT, &container)))?;
        Ok(async move {
            let exit = match Box::pin(raw.json::<Exit>()).next().await {
                Some(exit) => exit,
                None => Err(Fault::Lost("it ended before the container did".to_owned())),
            };
            let exit =
                exit.map_err(|fault| engine.wire.status(&fault, Call::on(WAIT, &container)))?;
            Ok(ContainerExit {
                // An exit code has 8 bits, Windows' 32.
                code: i32::try_from(exit.status_code).unwrap_or(-1),
                error: exit.error.map(|e| e.message).unwrap_or_default(),
            })
        })
    }

    /// Lists the processes of a container, as the host's ps(1) prints them.
    pub async fn processes(
        &self,
        container: &str,
        ps_options: &str,
    ) -> Result<ListProcessesResponse, Status> {
        names::container("container", container)?;
        let mut query = Query::default();
        query.add("ps_args", ps_options);
        let path = query.on(&format!("/containers/{container}/top"));
        let top: Top = self.look_at(Call::on("GET /containers/{id}/top", container), &path).await?;
        let rows = top.processes.unwrap_or_default().into_iter();
        Ok(ListProcessesResponse {
            titles: top.titles.unwrap_or_default(),
            rows: rows.map(|cells| ProcessRow { cells }).collect(),
        })
    }

    /// Lists what a container has changed in its file system, ordered by path.
    pub async fn diff(&self, container: &str) -> Result<Vec<FileChange>, Status> {
        names::container("container", container)?;
        let path = format!("/containers/{container}/changes");
        let call = Call::on("GET /containers/{id}/changes", container);
        let changes: Option<Vec<Change>> = self.look_at(call, &path).await?;
        let mut changes: Vec<FileChange> = changes.into_iter().flatten().map(Into::into).collect();
        changes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }

    /// Makes an image of a container; its id.
    pub async fn commit(&self, request: &CommitContainerRequest) -> Result<String, Status> {
        names::container("container", &request.container)?;
        if request.image.contains('@') {
            return Err(bad_field("image", "refusing to create a tag with a digest reference"));
        }
        let (repository, tag) = names::split_image(check_length("image", &request.image)?, "");
        let mut query = Query::default();
        query.add("container", &request.container);
        query.add("repo", repository);
        query.add("tag", tag);
        query.add("comment", &request.comment);
        query.add("author", &request.author);
        request.changes.iter().for_each(|change| query.add("changes", change));
        if request.no_pause {
            query.add("pause", "0");
        }
        let call = Call::on("POST /commit", &request.container);
        let made: Answer = self.change(call, &query.on("/commit"), None, LONG).await?;
        Ok(made.id)
    }

    /// Streams a container's whole file system as a tar archive. A connection that breaks is its last
    /// item, an error.
    pub async fn export(
        &self,
        container: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + 'static + use<>, Status> {
        names::container("container", container)?;
        let path = format!("/containers/{container}/export");
        self.get_bytes(Call::on("GET /containers/{id}/export", container), &path, Some(self.limit))
            .await
    }

    /// Removes all stopped containers that fit the filters.
    pub async fn prune_containers(
        &self,
        filters: &[String],
    ) -> Result<PruneContainersResponse, Status> {
        let path = filters::on("/containers/prune", filters)?;
        let call = Call::new("POST /containers/prune");
        let done: Answer = self.change(call, &path, None, LONG).await?;
        Ok(PruneContainersResponse {
            deleted: done.containers_deleted.unwrap_or_default(),
            space_reclaimed: done.space_reclaimed,
        })
    }
}

impl From<Change> for FileChange {
    fn from(change: Change) -> Self {
        let kind = match change.kind {
            0 => FileChangeKind::Modified,
            1 => FileChangeKind::Added,
            2 => FileChangeKind::Deleted,
            _ => FileChangeKind::Unspecified,
        };
        Self { path: change.path, kind: kind.into() }
    }
}

fn check_object(json: &str) -> Result<(), Status> {
    match serde_json::from_str::<HashMap<String, IgnoredAny>>(json) {
        Ok(_) => Ok(()),
        Err(e) => Err(bad_field("json", format!("this is no JSON object: {e}"))),
    }
}

fn check_length<'a>(field: &str, text: &'a str) -> Result<&'a str, Status> {
    match text.len() <= MAX_NAME {
        true => Ok(text),
        false => Err(bad_field(field, format!("a name has {MAX_NAME} bytes at most"))),
    }
}

#[cfg(test)]
#[path = "containers_tests.rs"]
mod tests;
