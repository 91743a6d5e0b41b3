//! The ports: 7443 for users, 7444 for agents, 7445 for metrics and health. Bytes become requests
//! here; what they mean is decided further in.

pub mod api;
pub mod calls;
mod ending;
pub mod gateway;
pub mod json;
pub mod limits;
mod messages;
pub mod metrics;
pub mod openapi;
pub mod origin;
pub mod pages;
mod right;
mod socket;
mod whole;

use dockctl_api::link::v1::End;
use dockctl_link::framing;
use http_body_util::BodyExt as _;
use tonic::body::Body;

/// Tells how an answer ends as its trailers pass. What `told` holds is dropped with the body.
fn at_end(body: Body, mut told: impl FnMut(&End) + Send + 'static) -> Body {
    Body::new(body.map_frame(move |frame| {
        if let Some(end) = frame.trailers_ref().and_then(framing::end_in) {
            told(&end);
        }
        frame
    }))
}
