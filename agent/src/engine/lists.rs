//! Lists of containers and images, in the API's own types. The container list is what everyone asks
//! most, so it is read into a slim struct with nothing in it that is not shown.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use bollard::{models::ImageSummary, query_parameters::ListImagesOptions};
use dockctl_api::v1::{Container, Image, Port};
use prost_types::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use tonic::Status;

use super::{
    Engine, age,
    fault::{Call, ambiguous, not_found},
    filters as query_filters,
    names::{self, encode},
    wire::{TIMEOUT, of_bollard, within},
};

/// Which containers to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ListQuery {
    /// Stopped ones too.
    pub all: bool,
    /// Label selector, "k=v" or "k" with commas between; empty for all.
    pub label_selector: String,
    /// Only the one with exactly this name or id, or those whose id begins so; empty for all.
    pub container: String,
    /// Docker's filters, "status=exited".
    pub filters: Vec<String>,
    /// Only so many, the newest, stopped ones too; 0 for all.
    pub last: u32,
    /// Measure what each has written.
    pub size: bool,
}

/// Which images to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ImageQuery {
    /// Those between, too.
    pub all: bool,
    /// Docker's filters, "dangling=true".
    pub filters: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    #[serde(rename = "ImageID")]
    image_id: Option<String>,
    command: Option<String>,
    created: Option<i64>,
    ports: Option<Vec<PortSummary>>,
    labels: Option<HashMap<String, String>>,
    state: Option<String>,
    status: Option<String>,
    network_settings: Option<Networks>,
    mounts: Option<Vec<Mount>>,
    size_rw: Option<u64>,
    size_root_fs: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    name: Option<String>,
    source: Option<String>,
    driver: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PortSummary {
    #[serde(rename = "IP")]
    ip: Option<String>,
    private_port: u32,
    public_port: Option<u32>,
    #[serde(rename = "Type")]
    protocol: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Networks {
    networks: Option<BTreeMap<String, IgnoredAny>>,
}

impl From<Summary> for Container {
    fn from(summary: Summary) -> Self {
        let mut names = summary.names.unwrap_or_default().into_iter();
        // A legacy link shows up as a second name, "/other/alias".
        let name = names.find(|name| !name.trim_start_matches('/').contains('/'));
        let networks = summary.network_settings.and_then(|settings| settings.networks);
        let mounts = summary.mounts.unwrap_or_default();
        let local = mounts.iter().filter(|m| m.driver.as_deref() == Some("local")).count();
        let named = |m: Mount| m.name.filter(|name| !name.is_empty()).or(m.source);
        Self {
            agent: String::new(),
            id: summary.id,
            name: name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image: summary.image.unwrap_or_default(),
            image_id: summary.image_id.unwrap_or_default(),
            command: summary.command.unwrap_or_default(),
            created_at: summary.created.map(|seconds| Timestamp { seconds, nanos: 0 }),
            state: summary.state.unwrap_or_default(),
            status: summary.status.unwrap_or_default(),
            ports: summary.ports.unwrap_or_default().into_iter().map(Port::from).collect(),
            labels: summary.labels.unwrap_or_default(),
            networks: networks.unwrap_or_default().into_keys().collect(),
            local_volumes: u32::try_from(local).unwrap_or(u32::MAX),
            mounts: mounts.into_iter().filter_map(named).collect(),
            // The engine leaves out what is 0.
            size_rw: summary.size_root_fs.map(|_| summary.size_rw.unwrap_or(0)),
            size_root_fs: summary.size_root_fs,
            ..Self::default()
        }
    }
}

impl From<PortSummary> for Port {
    fn from(port: PortSummary) -> Self {
        Self {
            host_ip: port.ip.unwrap_or_default(),
            host_port: port.public_port.unwrap_or_default(),
            container_port: port.private_port,
            protocol: port.protocol.unwrap_or_default(),
        }
    }
}

impl Engine {
    /// Lists containers, ordered by name, without their agent's name. Callers who ask the same at
    /// the same time share an engine call that begins after they came.
    pub async fn list_containers(&self, query: ListQuery) -> Result<Arc<Vec<Container>>, Status> {
        let filters = filters(&query)?;
        let (engine, asked) = (self.clone(), query.clone());
        let work = async move {
            let mut found = engine.list(&asked, &filters).await?;
            if !asked.container.is_empty() {
                pick(&mut found, &asked.container);
            }
            Ok(Arc::new(found))
        };
        self.reads.containers.call(query, work).await
    }

    /// The containers with these full ids, running or not; those that are gone are left out.
    pub(crate) async fn containers_by_id(&self, ids: &[String]) -> Result<Vec<Container>, Status> {
        let query = ListQuery { all: true, ..ListQuery::default() };
        self.list(&query, &serde_json::json!({ "id": ids }).to_string()).await
    }

    async fn list(&self, query: &ListQuery, filters: &str) -> Result<Vec<Container>, Status> {
        let mut path = format!("/containers/json?all={}&filters={}", query.all, encode(filters));
        if query.last > 0 {
            path.push_str(&format!("&limit={}", query.last));
        }
        if query.size {
            path.push_str("&size=true");
        }
        let summaries: Vec<Summary> = self
            .wire
            .get_json(&path, TIMEOUT)
            .await
            .map_err(|fault| self.wire.status(&fault, Call::new("GET /containers/json")))?;
        let mut list: Vec<Container> = summaries.into_iter().map(Container::from).collect();
        let now = SystemTime::now();
        list.iter_mut().for_each(|container| age::fill(container, now));
        list.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// Lists images, ordered by name, without their agent's name; shared as `list_containers` is.
    pub async fn list_images(&self, query: ImageQuery) -> Result<Arc<Vec<Image>>, Status> {
        let filters = query_filters::parse("filters", &query.filters)?;
        let (engine, all) = (self.clone(), query.all);
        let work = async move {
            let answer = within(TIMEOUT, async {
                let filters = (!filters.is_empty()).then(|| filters.into_iter().collect());
                let options = ListImagesOptions { all, filters, ..ListImagesOptions::default() };
                engine.docker.list_images(Some(options)).await.map_err(of_bollard)
            });
            let images = answer
                .await
                .map_err(|fault| engine.wire.status(&fault, Call::new("GET /images/json")))?;
            let mut images: Vec<Image> = images.into_iter().map(image).collect();
            images.sort_unstable_by(|a, b| (&a.tags, &a.id).cmp(&(&b.tags, &b.id)));
            Ok(Arc::new(images))
        };
        self.reads.images.call(query, work).await
    }
}

/// The engine's filters for a query, as it wants them: JSON.
fn filters(query: &ListQuery) -> Result<String, Status> {
    let mut filters = query_filters::parse("filters", &query.filters)?;
    let labels = names::labels(&query.label_selector)?;
    if !labels.is_empty() {
        filters.entry("label".to_owned()).or_default().extend(labels);
    }
    if !query.container.is_empty() {
        let name = names::container("container", &query.container)?;
        // What could be the beginning of an id is looked for in the whole list: the engine finds
        // nothing by a prefix that fits several.
        if !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            filters.insert("name".to_owned(), vec![format!("^/?{}$", name.replace('.', "\\."))]);
        }
    }
    Ok(serde_json::json!(filters).to_string())
}

/// Leaves the container with this name or id, or else those whose id begins so.
fn pick(found: &mut Vec<Container>, wanted: &str) {
    let exact = |c: &Container| c.name == wanted || c.id == wanted;
    if found.iter().any(exact) {
        found.retain(exact);
    } else {
        found.retain(|c| c.id.starts_with(wanted));
    }
}

/// The one container in a list that is meant.
pub(crate) fn find<'a>(list: &'a [Container], wanted: &str) -> Result<&'a Container, Status> {
    if let Some(exact) = list.iter().find(|c| c.name == wanted || c.id == wanted) {
        return Ok(exact);
    }
    let mut found = list.iter().filter(|c| c.id.starts_with(wanted));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(not_found(wanted)),
        (Some(_), Some(_)) => Err(ambiguous(wanted)),
    }
}

fn image(summary: ImageSummary) -> Image {
    let mut tags = summary.repo_tags;
    // Engines before API 1.43 call an untagged image so.
    tags.retain(|tag| tag != "<none>:<none>");
    tags.sort_unstable();
    Image {
        agent: String::new(),
        id: summary.id,
        tags,
        created_at: Some(Timestamp { seconds: summary.created, nanos: 0 }),
        size: u64::try_from(summary.size).unwrap_or(0),
        labels: summary.labels,
        stale: false,
        digests: summary.repo_digests,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_read_with_what_an_engine_may_leave_out() {
        let json = r#"[
            {"Id":"aa","Names":["/other/alias","/web"],"Image":"nginx","ImageID":"sha256:1","Command":"run",
             "Created":5,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
             {"PrivatePort":443,"Type":"tcp"}],"Labels":{"a":"b"},"State":"running","Status":"Up",
             "NetworkSettings":{"Networks":{"net":{"x":1},"bridge":{}}},"New":{"field":1}},
            {"Id":"bb","Names":null,"Labels":null,"Ports":null}]"#;
        let list: Vec<Summary> = serde_json::from_str(json).unwrap();
        let list: Vec<Container> = list.into_iter().map(Container::from).collect();
        assert_eq!(list[0].name, "web");
        assert_eq!(list[0].ports[0].host_port, 8080);
        assert_eq!(list[0].ports[1].host_port, 0);
        assert_eq!(list[0].networks, ["bridge", "net"]);
        assert_eq!((list[1].id.as_str(), list[1].name.as_str()), ("bb", ""));
    }

    #[test]
    fn a_name_beats_an_id_prefix() {
        let container = |id: &str, name: &str| Container {
            id: id.to_owned(),
            name: name.to_owned(),
            ..Container::default()
        };
        let all = vec![container("abc1", "x"), container("abc2", "y"), container("0", "abc")];
        let picked = |wanted| {
            let mut list = all.clone();
            pick(&mut list, wanted);
            list.into_iter().map(|c| c.id).collect::<Vec<_>>()
        };
        assert_eq!(picked("abc"), ["0"]);
        assert_eq!(picked("ab"), ["abc1", "abc2"]);
        assert_eq!(picked("y"), ["abc2"]);
        assert!(picked("z").is_empty());
    }

    #[test]
    fn filters_are_exact() {
        let filters = |container: &str, label_selector: &str| {
            let (container, label_selector) = (container.to_owned(), label_selector.to_owned());
            filters(&ListQuery { label_selector, container, ..ListQuery::default() })
        };
        assert_eq!(filters("", "").unwrap(), "{}");
        assert_eq!(filters("web.1", "").unwrap(), r#"{"name":["^/?web\\.1$"]}"#);
        assert_eq!(filters("abc", "a=b,c").unwrap(), r#"{"label":["a=b","c"]}"#);
        assert!(filters("a|b", "").is_err());
        let given = vec!["status=exited".to_owned(), "label=d".to_owned()];
        let label_selector = "a=b".to_owned();
        let query = ListQuery { filters: given, label_selector, ..ListQuery::default() };
        let both = super::filters(&query).unwrap();
        assert_eq!(both, r#"{"label":["d","a=b"],"status":["exited"]}"#);
    }
}
