//! The engine's events in the API's type, straight from the engine. `inventory` listens for ever and
//! fans out what is live; `serve` comes here only for past events.

use std::collections::{BTreeMap, HashMap};

use dockctl_api::{
    error::bad_field,
    v1::{Event, StreamEventsRequest},
};
use futures_util::{Stream, StreamExt as _};
use prost_types::Timestamp;
use serde::Deserialize;
use tonic::Status;

use super::{Engine, fault::Call, names, raw::Raw};

const CALL: Call<'static> = Call { name: "GET /events", container: "" };

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    #[serde(rename = "Type")]
    kind: Option<String>,
    action: Option<String>,
    actor: Option<Actor>,
    #[serde(rename = "time")]
    seconds: Option<i64>,
    #[serde(rename = "timeNano")]
    nanos: Option<i64>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: Option<String>,
    #[serde(rename = "Attributes")]
    attributes: Option<HashMap<String, String>>,
}

impl From<Message> for Event {
    fn from(message: Message) -> Self {
        let (id, attributes) = message.actor.map(|a| (a.id, a.attributes)).unwrap_or_default();
        let nanos = message.nanos.or(message.seconds.map(|s| s.saturating_mul(1_000_000_000)));
        Self {
            r#type: message.kind.unwrap_or_default(),
            action: message.action.unwrap_or_default(),
            actor_id: id.unwrap_or_default(),
            attributes: attributes.unwrap_or_default(),
            time: nanos.map(timestamp),
            inferred: false,
        }
    }
}

fn timestamp(nanos: i64) -> Timestamp {
    Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        // Below 10⁹, so it fits.
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}

impl Engine {
    /// Streams the engine's events: past ones since `since` (as far as it remembers, its last 256),
    /// then live ones until `until`; `types` selects. Ends where the engine ends it, or after its
    /// first error.
    pub async fn events(
        &self,
        request: &StreamEventsRequest,
    ) -> Result<impl Stream<Item = Result<Event, Status>> + Send + 'static + use<>, Status> {
        let mut query = Vec::new();
        if let Some(since) = &request.since {
            query.push(format!("since={}", names::time("since", since)?));
        }
        if let Some(until) = &request.until {
            query.push(format!("until={}", names::time("until", until)?));
        }
        if !request.types.is_empty() {
            check_types(&request.types)?;
            let filters = BTreeMap::from([("type", &request.types)]);
            let filters = serde_json::json!(filters).to_string();
            query.push(format!("filters={}", names::encode(&filters)));
        }
        let raw = Raw::open(&self.wire, &format!("/events?{}", query.join("&")))
            .await
            .map_err(|fault| self.wire.status(&fault, CALL))?;
        let wire = self.wire.clone();
        Ok(raw.json::<Message>().map(move |message| match message {
            Ok(message) => Ok(Event::from(message)),
            Err(fault) => Err(wire.status(&fault, CALL)),
        }))
    }
}

/// Checks a list of event types as users give it.
pub(crate) fn check_types(types: &[String]) -> Result<(), Status> {
    let good = types.len() <= 32
        && types
            .iter()
            .all(|t| (1..=32).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_lowercase()));
    good.then_some(()).ok_or_else(|| {
        bad_field("types", "event types are container, image, network, volume, daemon and plugin")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_their_type() {
        let json = r#"{"status":"start","Type":"brand-new","Action":"start","Actor":{"ID":"aa",
            "Attributes":{"name":"web"}},"scope":"local","time":7,"timeNano":7000000009}"#;
        let event = Event::from(serde_json::from_str::<Message>(json).unwrap());
        assert_eq!((event.r#type.as_str(), event.actor_id.as_str()), ("brand-new", "aa"));
        assert_eq!(event.time, Some(Timestamp { seconds: 7, nanos: 9 }));
        let bare = Event::from(serde_json::from_str::<Message>(r#"{"time":7}"#).unwrap());
        assert_eq!(bare.time, Some(Timestamp { seconds: 7, nanos: 0 }));
        assert!(check_types(&["Con/tainer".to_owned()]).is_err());
    }
}
