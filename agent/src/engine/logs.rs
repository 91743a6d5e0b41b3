//! A container's log, read from the engine in large pieces and handed on in batches: what each read
//! brought, up to 64 KiB. Called by `serve::containers`. It never reads ahead of its consumer by more than
//! one batch and one read.

use std::fmt::Write as _;

use dockctl_api::{
    error::{bad_field, reason, status},
    v1::{LogRecord, StreamLogsRequest},
};
use futures_util::{Stream, stream};
use prost_types::Timestamp;
use tonic::{Code, Status};

use super::{
    Engine, State,
    demux::{Batch, Demux, DemuxError},
    fault::{Call, Fault},
    names,
    raw::{Raw, lost},
};

const CALL: &str = "GET /containers/{id}/logs";

impl Engine {
    /// Streams a container's log as `request` asks; its fields about agents are not looked at. The
    /// stream ends where the log ends, or after its first error: UNAVAILABLE DOCKER_DOWN where the
    /// engine went away in the middle, so that an end is never mistaken for the log's own.
    pub async fn logs(
        &self,
        request: &StreamLogsRequest,
    ) -> Result<impl Stream<Item = Result<Vec<LogRecord>, Status>> + Send + 'static + use<>, Status>
    {
        names::container("container", &request.container)?;
        let query = query(request)?;
        let facts = self.facts(&request.container).await?;
        // By id: the name may pass to another container between the two calls.
        let path = format!("/containers/{}/logs?{query}", facts.id);
        let mut raw = Raw::open(&self.wire, &path)
            .await
            .map_err(|fault| self.wire.status(&fault, Call::on(CALL, &request.container)))?;
        raw.gather();
        let log = Log {
            engine: self.clone(),
            demux: Demux::new(facts.config.tty, request.timestamps),
            batch: Batch::default(),
            container: request.container.clone(),
            // With `until`, a follow may end while the container runs.
            ends_with: (request.follow && request.until.is_none()).then_some(facts.state),
            id: facts.id,
            raw,
            ended: false,
        };
        Ok(stream::unfold(Some(log), |log| async {
            let mut log = log?;
            let item = log.next().await?;
            let more = item.is_ok();
            Some((item, more.then_some(log)))
        }))
    }
}

struct Log {
    engine: Engine,
    raw: Raw,
    demux: Demux,
    batch: Batch,
    container: String,
    id: String,
    /// For a follow: the container's state when it began. It ends when this run of the container does.
    ends_with: Option<State>,
    ended: bool,
}

impl Log {
    async fn next(&mut self) -> Option<Result<Vec<LogRecord>, Status>> {
        loop {
            let decoded = self.demux.decode(&mut self.raw.buffer, &mut self.batch, self.ended);
            // What came before a broken frame is good, and the error comes back.
            if !self.batch.is_empty() {
                return Some(Ok(self.batch.take()));
            }
            if let Err(e) = decoded {
                return Some(Err(self.broken(e)));
            }
            if self.ended {
                return self.check_end().await.err().map(Err);
            }
            match self.raw.fill().await {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(e) => return Some(Err(self.fault(&lost(&e)))),
            }
        }
    }

    /// HTTP/1.0 marks a body's end by closing, which is also how a dying engine ends it.
    async fn check_end(&self) -> Result<(), Status> {
        match self.engine.look(&self.id).await {
            Ok(now) if now.state.running && self.ends_with.as_ref() == Some(&now.state) => {
                let why = "it ended while the container still runs".to_owned();
                Err(self.fault(&Fault::Lost(why)))
            }
            // The engine is there; the container may be gone.
            Ok(_) | Err(Fault::Answer { .. } | Fault::Garbage(_) | Fault::Version(_)) => Ok(()),
            Err(fault) => Err(self.fault(&Fault::Lost(fault.to_string()))),
        }
    }

    fn broken(&self, error: DemuxError) -> Status {
        match error {
            DemuxError::Truncated => self.fault(&Fault::Lost(error.to_string())),
            DemuxError::Engine(_) => {
                status(Code::Internal, reason::DOCKER_ERROR, error.to_string(), &[("call", CALL)])
            }
            _ => self.fault(&Fault::Garbage(error.to_string())),
        }
    }

    fn fault(&self, fault: &Fault) -> Status {
        self.engine.wire.status(fault, Call::on(CALL, &self.container))
    }
}

fn query(request: &StreamLogsRequest) -> Result<String, Status> {
    if request.no_stdout && request.no_stderr {
        return Err(bad_field(
            "no_stderr",
            "no_stdout and no_stderr together leave nothing to show",
        ));
    }
    let mut query = format!(
        "stdout={}&stderr={}&follow={}&timestamps={}",
        !request.no_stdout, !request.no_stderr, request.follow, request.timestamps
    );
    if request.details {
        query.push_str("&details=true");
    }
    // Writing to a String cannot fail.
    if let Some(tail) = request.tail {
        let _ = write!(query, "&tail={tail}");
    }
    if let Some(since) = &request.since {
        let _ = write!(query, "&since={}", names::time("since", since)?);
    }
    if let Some(until) = &request.until {
        names::time("until", until)?;
        // The engine's `until` includes its moment, ours does not.
        let before = match until {
            Timestamp { seconds: 0, nanos: 0 } => *until,
            Timestamp { seconds, nanos: 0 } => {
                Timestamp { seconds: seconds - 1, nanos: 999_999_999 }
            }
            Timestamp { seconds, nanos } => Timestamp { seconds: *seconds, nanos: nanos - 1 },
        };
        let _ = write!(query, "&until={}", names::time("until", &before)?);
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let plain = StreamLogsRequest::default();
        assert_eq!(query(&plain).unwrap(), "stdout=true&stderr=true&follow=false&timestamps=false");
        let full = StreamLogsRequest {
            follow: true,
            tail: Some(0),
            timestamps: true,
            no_stdout: true,
            details: true,
            since: Some(Timestamp { seconds: 1, nanos: 5 }),
            until: Some(Timestamp { seconds: 9, nanos: 0 }),
            ..plain.clone()
        };
        assert_eq!(
            query(&full).unwrap(),
            "stdout=false&stderr=true&follow=true&timestamps=true&details=true&tail=0&since=1.000000005\
             &until=8.999999999"
        );
        let nothing = StreamLogsRequest { no_stdout: true, no_stderr: true, ..plain };
        assert!(query(&nothing).is_err());
    }
}
