//! Long answers of the engine, in pieces as they come. Used by exports. Unlike a `Raw` stream, a download
//! tells its end from a connection that broke. Dropping it closes the connection.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyExt as _;

use super::{
    fault::Fault,
    wire::{TIMEOUT, Wire, fault, get, within},
};

/// Frames of a download that are handed on as one piece; hyper makes none that is longer than 408 KiB.
const GATHERED: usize = 2;

/// Counts a stream as long as it is open.
pub(super) struct Open(Arc<Wire>);

impl Open {
    pub(super) fn new(wire: Arc<Wire>) -> Self {
        wire.streams.fetch_add(1, Ordering::Relaxed);
        Self(wire)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wire {
    /// Gets a path whose answer is long, in pieces as they come. The answer's head must come within
    /// 30 s; after that there is no limit.
    pub(super) async fn download(
        self: &Arc<Self>,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, Fault>> + Send + 'static + use<>, Fault> {
        let ask = || async {
            let response = self.versioned(get(path)?).await?;
            if response.status().is_success() {
                return Ok(response.into_body());
            }
            let (status, body) = self.read(response).await?;
            Err(Fault::answer(status.as_u16(), &body))
        };
        let body = within(TIMEOUT, async {
            match ask().await {
                Err(fault) if self.renegotiates(&fault) => ask().await,
                other => other,
            }
        });
        let body = body.await?;
        let open = Open::new(self.clone());
        let pieces = body.into_data_stream().ready_chunks(GATHERED).map(move |frames| {
            let _ = &open;
            let frames: Result<Vec<Bytes>, _> = frames.into_iter().collect();
            Ok(match frames.map_err(|e| fault(&e))?.as_slice() {
                [one] => one.clone(),
                many => many.concat().into(),
            })
        });
        Ok(pieces)
    }
}
