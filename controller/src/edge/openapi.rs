//! The API's description for tools that read OpenAPI, made from the descriptors and their comments.

use std::collections::{BTreeMap, HashMap};

use dockctl_api::{VERSION, policy::Policies};
use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor, MethodDescriptor,
};
use serde_json::{Map, Value, json};

/// The whole document, OpenAPI 3.1. Rpcs whose caller sends a stream are not in it: they need gRPC or a WebSocket.
pub fn document(pool: &DescriptorPool, policies: &Policies) -> Value {
    let mut made = Made::default();
    let services = pool.services().filter(|s| s.package_name() == "dockctl.v1");
    let (mut paths, mut tags) = (BTreeMap::new(), Vec::new());
    for service in services {
        tags.push(json!({
            "name": service.name(),
            "description": made.comment(&service.parent_file(), service.path()),
        }));
        for method in service.methods().filter(|m| !m.is_client_streaming()) {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let mut operation = made.operation(&method, service.name());
            if policies.get(&path).is_some_and(|method| method.policy.is_public) {
                operation["security"] = json!([]);
            }
            paths.insert(path, json!({ "post": operation }));
        }
    }
    made.schemas.insert("google.rpc.Status".to_owned(), status());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "dockctl",
            "version": VERSION,
            "description": "Every call is a POST whose body is the request message as JSON, proto3's own \
                mapping; a stream answers with one JSON object a line, or with server-sent events where \
                text/event-stream is accepted. An error is a google.rpc.Status.",
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token of AuthService/Login, or an API token.",
                },
            },
            "schemas": made.schemas,
        },
    })
}

/// A google.rpc.Status.
fn status() -> Value {
    json!({
        "type": "object",
        "description": "What went wrong.",
        "required": ["code", "message", "details"],
        "properties": {
            "code": { "type": "integer", "description": "The gRPC code." },
            "message": { "type": "string", "description": "A sentence for people." },
            "details": {
                "type": "array",
                "description": "A google.rpc.ErrorInfo, whose reason is stable; a google.rpc.RetryInfo where it helps to wait.",
                "items": { "type": "object", "required": ["@type"] },
            },
        },
    })
}

#[derive(Default)]
struct Made {
    schemas: BTreeMap<String, Value>,
    /// Leading comments by file and path.
    comments: HashMap<String, HashMap<Vec<i32>, String>>,
}

impl Made {
    fn operation(&mut self, method: &MethodDescriptor, tag: &str) -> Value {
        let comment = self.comment(&method.parent_file(), method.path());
        let summary = comment.split_inclusive(". ").next().unwrap_or_default().trim().to_owned();
        let answer = self.reference(&method.output());
        let content = match method.is_server_streaming() {
            true => json!({
                "application/x-ndjson": { "schema": answer },
                "text/event-stream": { "schema": { "type": "string" } },
            }),
            false => json!({ "application/json": { "schema": answer } }),
        };
        json!({
            "tags": [tag],
            "operationId": format!("{tag}_{}", method.name()),
            "summary": summary,
            "description": comment,
            "requestBody": {
                "content": { "application/json": { "schema": self.reference(&method.input()) } },
            },
            "responses": {
                "200": { "description": "What was asked for.", "content": content },
                "default": {
                    "description": "What went wrong.",
                    "content": {
                        "application/json": { "schema": { "$ref": "#/components/schemas/google.rpc.Status" } },
                    },
                },
            },
        })
    }

    /// A reference to a message's schema, which is made where it is not there yet.
    fn reference(&mut self, message: &MessageDescriptor) -> Value {
        let name = message.full_name();
        if let Some(known) = well_known(name) {
            return known;
        }
        if !self.schemas.contains_key(name) {
            // There first, so that a message that holds itself comes to an end.
            self.schemas.insert(name.to_owned(), Value::Null);
            let mut properties = Map::new();
            for field in message.fields() {
                let mut schema = self.field(&field);
                let comment = self.comment(&message.parent_file(), field.path());
                if let (Some(schema), false) = (schema.as_object_mut(), comment.is_empty()) {
                    schema.insert("description".to_owned(), comment.into());
                }
                properties.insert(field.json_name().to_owned(), schema);
            }
            let schema = json!({
                "type": "object",
                "description": self.comment(&message.parent_file(), message.path()),
                "properties": properties,
                "additionalProperties": false,
            });
            self.schemas.insert(name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            let value = entry.map_entry_value_field();
            return json!({ "type": "object", "additionalProperties": self.one(&value.kind()) });
        }
        let one = self.one(&field.kind());
        match field.cardinality() {
            Cardinality::Repeated => json!({ "type": "array", "items": one }),
            _ => one,
        }
    }

    fn one(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Double | Kind::Float => json!({ "type": "number" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX })
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX })
            }
            // Too large for a JavaScript number, so proto3 writes them as strings.
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$" })
            }
            Kind::Uint64 | Kind::Fixed64 => {
                json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$" })
            }
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Message(message) => self.reference(message),
            Kind::Enum(of) => self.enumeration(of),
        }
    }

    fn enumeration(&mut self, of: &EnumDescriptor) -> Value {
        let name = of.full_name();
        if !self.schemas.contains_key(name) {
            let values: Vec<_> = of.values().map(|value| value.name().to_owned()).collect();
            let file = of.parent_file();
            let told = of
                .values()
                .map(|value| format!("- {}: {}", value.name(), self.comment(&file, value.path())));
            let told: Vec<_> = told.collect();
            let comment = self.comment(&file, of.path());
            let description = format!("{comment}\n\n{}", told.join("\n"));
            let schema = json!({ "type": "string", "enum": values, "description": description });
            self.schemas.insert(name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// The comment before something, its lines joined.
    fn comment(&mut self, file: &FileDescriptor, path: &[i32]) -> String {
        let comments = self.comments.entry(file.name().to_owned()).or_insert_with(|| {
            let info = file.file_descriptor_proto().source_code_info.clone().unwrap_or_default();
            let comments = info.location.into_iter().filter_map(|location| {
                let text = location.leading_comments?;
                Some((location.path, text.lines().map(str::trim).collect::<Vec<_>>().join(" ")))
            });
            comments.collect()
        });
        comments.get(path).map(|text| text.trim().to_owned()).unwrap_or_default()
    }
}

/// Messages whose JSON is no object of their fields.
fn well_known(name: &str) -> Option<Value> {
    Some(match name {
        "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "google.protobuf.Duration" => {
            json!({ "type": "string", "pattern": "^-?[0-9]{1,9}(\\.[0-9]{1,9})?s$" })
        }
        "google.protobuf.Struct" => json!({ "type": "object" }),
        "google.protobuf.ListValue" => json!({ "type": "array" }),
        "google.protobuf.Value" => json!({}),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use dockctl_api::policy;

    use super::*;

    #[test]
    fn every_unary_and_streamed_rpc_is_described_with_its_comment() {
        let policies = Policies::load().unwrap();
        let document = document(policy::pool().unwrap(), &policies);
        let paths = document["paths"].as_object().unwrap();
        for method in policies.iter().filter(|m| !m.client_streaming) {
            let operation = &paths[&method.path]["post"];
            assert!(operation["description"].as_str().unwrap().len() > 10, "{}", method.path);
            let is_open = operation["security"] == json!([]);
            assert_eq!(is_open, method.policy.is_public, "{}", method.path);
        }
        assert_eq!(paths.len(), policies.iter().filter(|m| !m.client_streaming).count());
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_field_is_described() {
        let document = document(policy::pool().unwrap(), &Policies::load().unwrap());
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        for (name, schema) in schemas.iter().filter(|(name, _)| name.starts_with("dockctl.")) {
            assert!(!schema["description"].as_str().unwrap().is_empty(), "{name}");
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                assert!(schema["description"].is_string(), "{name}.{field}");
            }
        }
        let container = &schemas["dockctl.v1.Container"]["properties"];
        assert_eq!(container["labels"]["additionalProperties"]["type"], "string");
        assert_eq!(container["createdAt"]["format"], "date-time");
    }
}
