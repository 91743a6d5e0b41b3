//! The policy of every rpc, read from the descriptor set. The guard asks who may call, the forwarder
//! asks where the call runs; neither knows any method by name.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};

use crate::v1::{Policy, Role, ServedBy, WithoutAgent};

/// What is wrong with the descriptors.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The descriptor set cannot be read.
    #[error("the descriptor set cannot be read: {0}")]
    Descriptors(String),
    /// An rpc has no policy or an incomplete one.
    #[error("{method}: {problem}")]
    Incomplete {
        /// The rpc's full name.
        method: String,
        /// What is missing.
        problem: &'static str,
    },
}

/// This build's own descriptors; decoded once, at the first call.
pub fn pool() -> Result<&'static DescriptorPool, PolicyError> {
    static POOL: LazyLock<Result<DescriptorPool, String>> =
        LazyLock::new(|| DescriptorPool::decode(crate::DESCRIPTORS).map_err(|e| e.to_string()));
    POOL.as_ref().map_err(|error| PolicyError::Descriptors(error.clone()))
}

/// One rpc of `dockctl.v1`.
#[derive(Debug, Clone)]
pub struct Method {
    /// The path, for example `/dockctl.v1.ContainerService/ListContainers`.
    pub path: String,
    /// The declared policy.
    pub policy: Policy,
    /// Whether the caller may send several messages.
    pub client_streaming: bool,
    /// Whether the answer is a stream.
    pub server_streaming: bool,
    /// Whether field 1 of the request is `agent`.
    pub has_agent: bool,
    /// The request's fields that name what it is about: these may be written down.
    pub names: Vec<NameField>,
}

/// A field of a request that holds a name.
#[derive(Debug, Clone)]
pub struct NameField {
    /// The field's number.
    pub number: u32,
    /// The field's name.
    pub name: String,
    /// Whether it may have several values.
    pub is_list: bool,
    /// What its value is.
    pub kind: NameKind,
}

/// What a field that names something holds.
#[derive(Debug, Clone)]
pub enum NameKind {
    /// A string.
    Text,
    /// One of an enum's values.
    Choice(EnumDescriptor),
    /// Pairs of strings.
    Pairs,
}

/// Fields that hold names and never a secret.
const NAMES: [&str; 15] = [
    "container",
    "description",
    "id",
    "image",
    "images",
    "name",
    "network",
    "path",
    "remove",
    "role",
    "selector",
    "set",
    "tag",
    "username",
    "volume",
];

/// Roles in order, and what people and the store call them.
const ROLES: [(Role, &str); 4] = [
    (Role::None, "none"),
    (Role::Viewer, "viewer"),
    (Role::Operator, "operator"),
    (Role::Admin, "admin"),
];

impl Role {
    /// What people call it: "none", "viewer", "operator" or "admin"; empty where it is not set.
    pub fn word(self) -> &'static str {
        ROLES.iter().find(|(role, _)| *role == self).map_or("", |(_, word)| word)
    }

    /// The role that people call so.
    pub fn from_word(word: &str) -> Option<Self> {
        ROLES.iter().find(|(_, of)| *of == word).map(|(role, _)| *role)
    }
}

/// Every rpc of `dockctl.v1` by path.
#[derive(Debug, Clone)]
pub struct Policies {
    methods: HashMap<String, Arc<Method>>,
}

impl Policies {
    /// Reads the policies of this build's own descriptor set.
    pub fn load() -> Result<Self, PolicyError> {
        Self::from_pool(pool()?)
    }

    /// Reads the policies of every rpc in package `dockctl.v1`; fails on the first bad one.
    pub fn from_descriptors(descriptors: &[u8]) -> Result<Self, PolicyError> {
        let pool = DescriptorPool::decode(descriptors)
            .map_err(|e| PolicyError::Descriptors(e.to_string()))?;
        Self::from_pool(&pool)
    }

    fn from_pool(pool: &DescriptorPool) -> Result<Self, PolicyError> {
        let mut methods = HashMap::new();
        for service in pool.services().filter(|s| s.package_name() == "dockctl.v1") {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                methods.insert(path.clone(), Arc::new(read(pool, &method, path)?));
            }
        }
        Ok(Self { methods })
    }

    /// The rpc at a path.
    pub fn get(&self, path: &str) -> Option<&Arc<Method>> {
        self.methods.get(path)
    }

    /// All rpcs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Method>> {
        self.methods.values()
    }
}

fn read(
    pool: &DescriptorPool,
    method: &MethodDescriptor,
    path: String,
) -> Result<Method, PolicyError> {
    let bad = |problem| PolicyError::Incomplete { method: method.full_name().to_owned(), problem };
    let extension = pool
        .get_extension_by_name("dockctl.v1.policy")
        .ok_or_else(|| PolicyError::Descriptors("no extension dockctl.v1.policy".to_owned()))?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return Err(bad("no policy option"));
    }
    let value = options.get_extension(&extension);
    let policy = value
        .as_message()
        .and_then(|m| Policy::decode(m.encode_to_vec().as_slice()).ok())
        .ok_or_else(|| bad("the policy cannot be read"))?;

    if policy.permission.is_empty() != policy.is_public {
        return Err(bad("needs a permission, or is_public and none"));
    }
    if policy.is_public != (policy.role() == Role::Unspecified) {
        return Err(bad("needs a role, or is_public and none"));
    }
    if policy.rate_class == 0 {
        return Err(bad("no rate_class"));
    }
    match policy.served_by() {
        ServedBy::Unspecified => return Err(bad("no served_by")),
        ServedBy::Controller => {}
        ServedBy::Agent => {
            let is_string = |number, name| {
                method
                    .input()
                    .get_field(number)
                    .is_some_and(|f| f.name() == name && f.kind() == Kind::String && !f.is_list())
            };
            if !is_string(1, "agent") {
                return Err(bad("is served by agents, so field 1 must be `string agent`"));
            }
            if policy.without_agent() == WithoutAgent::Merged {
                let answer = method.output();
                let merges = is_string(2, "agent_selector")
                    && answer.get_field(1).is_some_and(|f| f.name() == "agent")
                    && answer.get_field(15).is_some_and(|f| f.name() == "notice");
                if !merges {
                    return Err(bad("merges, so it needs agent, agent_selector and notice"));
                }
            }
        }
    }
    Ok(Method {
        path,
        policy,
        client_streaming: method.is_client_streaming(),
        server_streaming: method.is_server_streaming(),
        has_agent: method.input().get_field(1).is_some_and(|f| f.name() == "agent"),
        names: method
            .input()
            .fields()
            .filter(|f| NAMES.contains(&f.name()))
            .filter_map(|f| {
                Some(NameField {
                    number: f.number(),
                    name: f.name().to_owned(),
                    is_list: f.is_list() || f.is_map(),
                    kind: name_kind(&f)?,
                })
            })
            .collect(),
    })
}

fn name_kind(field: &FieldDescriptor) -> Option<NameKind> {
    let of_map = |entry: &MessageDescriptor| {
        let is_string = |field: FieldDescriptor| field.kind() == Kind::String;
        is_string(entry.map_entry_key_field()) && is_string(entry.map_entry_value_field())
    };
    match field.kind() {
        Kind::String => Some(NameKind::Text),
        Kind::Enum(values) if !field.is_list() => Some(NameKind::Choice(values)),
        Kind::Message(entry) if field.is_map() && of_map(&entry) => Some(NameKind::Pairs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_has_a_complete_policy() {
        let policies = Policies::load().unwrap();
        assert!(policies.iter().count() >= 25);
        let list = policies.get("/dockctl.v1.ContainerService/ListContainers").unwrap();
        assert_eq!(list.policy.permission, "containers.read");
        assert_eq!(list.policy.served_by(), ServedBy::Agent);
        assert!(!list.server_streaming);
    }

    #[test]
    fn only_what_lets_people_in_is_public() {
        let policies = Policies::load().unwrap();
        let mut public: Vec<_> =
            policies.iter().filter(|m| m.policy.is_public).map(|m| m.path.as_str()).collect();
        public.sort_unstable();
        let auth = |rpc| format!("/dockctl.v1.AuthService/{rpc}");
        let ways_in = [
            "FinishOidcLogin",
            "GetLoginOptions",
            "Login",
            "LoginWithDevice",
            "Refresh",
            "SignUp",
            "StartOidcLogin",
        ];
        assert_eq!(public, ways_in.map(auth));
    }

    #[test]
    fn a_permission_has_one_role() {
        let mut roles = HashMap::new();
        for method in Policies::load().unwrap().iter() {
            let role = method.policy.role();
            let other = roles.insert(method.policy.permission.clone(), role);
            assert!(other.is_none_or(|other| other == role), "{}", method.path);
        }
    }

    #[test]
    fn an_rpc_without_a_policy_is_refused() {
        let pool = DescriptorPool::decode(crate::DESCRIPTORS).unwrap();
        let mut set = prost_types::FileDescriptorSet {
            file: pool.files().map(|f| f.file_descriptor_proto().clone()).collect(),
        };
        // prost-types drops options that it does not know, which is just the case to test.
        for file in &mut set.file {
            file.options = None;
        }
        let err = Policies::from_descriptors(&set.encode_to_vec()).unwrap_err();
        assert!(err.to_string().contains("no policy option"), "{err}");
    }
}
