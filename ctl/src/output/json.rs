//! JSON and YAML for scripts: the proto3 JSON mapping under the fields' proto names, with every field
//! present (unset messages as null) and 64-bit numbers as numbers, which all values here fit.
//! The descriptors are parsed only when one of these formats is asked for.

use dockctl_api::policy;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value};

use crate::{
    args::Format,
    error::{Error, Exit, Result},
};

/// A message as JSON. `name` is the message's name in `dockctl.v1`, for example `Container`.
pub(crate) fn value(name: &str, message: &impl Message) -> Result<Value> {
    let wrong = |e: String| Error::new(Exit::Failed, format!("{name} cannot be shown: {e}"));
    let descriptor = pool()?
        .get_message_by_name(&format!("dockctl.v1.{name}"))
        .ok_or_else(|| wrong("it is not in the descriptors".to_owned()))?;
    let bytes = message.encode_to_vec();
    let dynamic = DynamicMessage::decode(descriptor.clone(), bytes.as_slice())
        .map_err(|e| wrong(e.to_string()))?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    let mut value = dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|e| wrong(e.to_string()))?;
    fill(&descriptor, &mut value);
    Ok(value)
}

/// Several messages as a JSON array.
pub(crate) fn values<M: Message>(name: &str, messages: &[M]) -> Result<Value> {
    messages.iter().map(|m| value(name, m)).collect()
}

/// A whole document in the format; a table's place is taken by JSON.
pub(crate) fn document(format: Format, value: &Value) -> Result<String> {
    let wrong = |e: String| Error::new(Exit::Failed, format!("the answer cannot be shown: {e}"));
    if format == Format::Yaml {
        return yaml_serde::to_string(value).map_err(|e| wrong(e.to_string()));
    }
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|e| wrong(e.to_string()))
}

/// One item of a stream: a line of JSON, or a YAML document.
pub(crate) fn item(format: Format, value: &Value) -> Result<String> {
    if format == Format::Yaml {
        return Ok(format!("---\n{}", document(format, value)?));
    }
    Ok(format!("{value}\n"))
}

fn pool() -> Result<&'static DescriptorPool> {
    policy::pool().map_err(|error| Error::new(Exit::Failed, error.to_string()))
}

/// Puts null where a message is unset, so that a script finds every key, in the fields' order.
fn fill(descriptor: &MessageDescriptor, value: &mut Value) {
    let Value::Object(object) = value else { return };
    let mut full = Map::new();
    for field in descriptor.fields() {
        let mut value = object.remove(field.name()).unwrap_or(Value::Null);
        if let Kind::Message(inner) = field.kind()
            && inner.package_name() == "dockctl.v1"
            && !field.is_map()
        {
            match &mut value {
                Value::Array(items) => items.iter_mut().for_each(|item| fill(&inner, item)),
                one => fill(&inner, one),
            }
        }
        full.insert(field.name().to_owned(), value);
    }
    *object = full;
}

#[cfg(test)]
mod tests {
    use dockctl_api::v1::{Agent, AgentState, Container, EngineStatus, Port};

    use super::*;

    #[test]
    fn every_key_is_there() {
        let container = Container {
            agent: "web-1".to_owned(),
            created_at: Some(prost_types::Timestamp { seconds: 0, nanos: 5 }),
            ports: vec![Port { container_port: 80, ..Port::default() }],
            ..Container::default()
        };
        let value = value("Container", &container).unwrap();
        assert_eq!(value["agent"], "web-1");
        assert_eq!(value["created_at"], "1970-01-01T00:00:00.000000005Z");
        assert_eq!(value["ports"][0]["container_port"], 80);
        assert_eq!(value["ports"][0]["host_ip"], "");
        assert_eq!(value["labels"], serde_json::json!({}));
        assert_eq!(value["stale"], false);
    }

    #[test]
    fn unset_messages_are_null_and_numbers_are_numbers() {
        let agent = Agent {
            epoch: 7,
            state: AgentState::Offline.into(),
            engine: Some(EngineStatus::default()),
            ..Agent::default()
        };
        let value = value("Agent", &agent).unwrap();
        assert_eq!(value["epoch"], 7);
        assert_eq!(value["state"], "AGENT_STATE_OFFLINE");
        assert_eq!(value["engine"]["available"], false);
        assert!(value.as_object().unwrap().contains_key("connected_at"));
        assert_eq!(value["connected_at"], Value::Null);
    }

    #[test]
    fn yaml_quotes_what_would_be_misread() {
        let value = serde_json::json!([{"name": "no", "id": "12e3"}]);
        let text = document(Format::Yaml, &value).unwrap();
        let back: Value = yaml_serde::from_str(&text).unwrap();
        assert_eq!(back, value);
    }
}
