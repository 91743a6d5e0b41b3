//! Looks at what a request of a confined host leans on: asks the engine for its JSON, has the guard judge
//! it, and gives the ids by which the request is passed on. Called by `pass`; never changes anything.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1 as client;
use hyper_util::rt::TokioIo;

use super::{endpoint::Endpoint, fault::Fault, pass::Failed, wire::TIMEOUT};
use crate::guard::{
    existing::{self, Ids, Lean},
    json::Json,
    line::Line,
};

/// How many answers of the engine one request may need.
const MOST: usize = 256;
/// The longest of them, bytes.
const MAX_ANSWER: usize = 4 << 20;

/// Judges all that a request leans on, within 30 s, and gives its ids.
pub(super) async fn look(endpoint: &Endpoint, leans: Vec<Lean>) -> Result<Ids, Failed> {
    let mut look = Look { endpoint, seen: HashSet::new(), left: MOST };
    let all = async {
        let mut ids = Ids::new();
        for lean in leans {
            let judged = look.judge(lean.clone()).await;
            let id = judged.map_err(|failed| refused(failed, |why| gives_away(&lean, &why)))?;
            if let Lean::Volume(name) = &lean {
                look.writers(name).await?;
            }
            ids.extend(id.map(|id| (lean, id)));
        }
        Ok(ids)
    };
    let late = || Failed::Refused("the engine does not tell what it leans on".to_owned());
    tokio::time::timeout(TIMEOUT, all).await.unwrap_or_else(|_| Err(late()))
}

fn gives_away(lean: &Lean, why: &str) -> String {
    format!("{lean} would give away the host: {why}")
}

/// The same with more said of a refusal.
fn refused(failed: Failed, more: impl FnOnce(String) -> String) -> Failed {
    match failed {
        Failed::Refused(why) => Failed::Refused(more(why)),
        failed => failed,
    }
}

struct Look<'a> {
    endpoint: &'a Endpoint,
    seen: HashSet<Lean>,
    left: usize,
}

impl Look<'_> {
    /// Judges one thing and what that leans on, and gives its id unless it has none or was seen before.
    fn judge(&mut self, lean: Lean) -> BoxFuture<'_, Result<Option<String>, Failed>> {
        Box::pin(async move {
            if !self.seen.insert(lean.clone()) {
                return Ok(None);
            }
            let json = match &lean {
                Lean::Container(name) => self.ask(&["containers", name, "json"], &[]).await?,
                Lean::Exec(id) => self.ask(&["exec", id, "json"], &[]).await?,
                Lean::Network(name) => self.ask(&["networks", name], &[]).await?,
                Lean::Volume(name) => match self.ask(&["volumes", name], &[]).await {
                    // It will be made, and is then the plainest.
                    Err(Failed::Absent(_)) => return Ok(None),
                    json => json?,
                },
            };
            let leans = match &lean {
                Lean::Container(_) => existing::container(&json),
                Lean::Exec(_) => existing::exec(&json).map(|container| vec![container]),
                Lean::Network(_) => existing::network(&json).map(|()| Vec::new()),
                Lean::Volume(_) => existing::volume(&json).map(|()| Vec::new()),
            };
            for inner in leans.map_err(Failed::Refused)? {
                match self.judge(inner.clone()).await {
                    // It is bound to what that was.
                    Err(Failed::Absent(_)) => {
                        return Err(Failed::Refused(format!("{inner} is no more")));
                    }
                    judged => {
                        judged.map_err(|failed| refused(failed, |why| format!("{inner}: {why}")))?
                    }
                };
            }
            match (&lean, json.get("id").text()) {
                (Lean::Container(_) | Lean::Network(_), Some(id)) if is_id(id) => {
                    Ok(Some(id.to_owned()))
                }
                (Lean::Container(_) | Lean::Network(_), _) => {
                    Err(Failed::Refused("the engine does not tell its id".to_owned()))
                }
                _ => Ok(None),
            }
        })
    }

    /// Judges the containers that may write to a volume: what they keep there, programs or keys, is theirs.
    async fn writers(&mut self, volume: &str) -> Result<(), Failed> {
        let filters = serde_json::json!({ "volume": [volume] }).to_string();
        let query = [("all", "1"), ("filters", filters.as_str())];
        let users = self.ask(&["containers", "json"], &query).await?;
        for user in users.elements().unwrap_or_default() {
            let id = user.get("id").text().filter(|_| existing::writes(user, volume));
            let Some(id) = id else { continue };
            let lean = Lean::Container(id.to_owned());
            match self.judge(lean.clone()).await {
                Ok(_) | Err(Failed::Absent(_)) => {}
                Err(failed) => {
                    return Err(refused(failed, |why| {
                        format!(
                            "the volume {volume:?} belongs to another: {}",
                            gives_away(&lean, &why)
                        )
                    }));
                }
            }
        }
        Ok(())
    }

    /// Gets the JSON of something, without a version: as the engine itself would have it.
    async fn ask(&mut self, path: &[&str], query: &[(&str, &str)]) -> Result<Json, Failed> {
        let refuse = |why: &str| Failed::Refused(why.to_owned());
        self.left = self.left.checked_sub(1).ok_or_else(|| refuse("it leans on too much"))?;
        let request = Request::get(Line::get(path, query).target()).header(HOST, "docker");
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|e| Failed::Refused(e.to_string()))?;
        let io = self.endpoint.direct().await.map_err(Failed::Down)?;
        let (mut sender, connection) =
            client::handshake(TokioIo::new(io)).await.map_err(Failed::Lost)?;
        // Ends by itself, with the sender.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(Failed::Lost)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|_| refuse("the engine's answer has no end"))?.to_bytes();
        match (status, Fault::answer(status.as_u16(), &body)) {
            (status, _) if status.is_success() => {
                Json::parse(&body).ok_or_else(|| refuse("the engine's answer is no JSON"))
            }
            (StatusCode::NOT_FOUND, Fault::Answer { message, .. }) => Err(Failed::Absent(message)),
            (_, fault) => Err(Failed::Refused(format!("the engine does not tell of it: {fault}"))),
        }
    }
}

/// As the engine makes them.
fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())
}
