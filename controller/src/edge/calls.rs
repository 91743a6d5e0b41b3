//! How many calls there are, how they end and how long they take, for Prometheus. Every rpc has its
//! metrics from the start, so that none is missing from a dashboard until it is first called, and no
//! stranger can add one.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Instant,
};

use dockctl_api::{
    link::v1::End,
    policy::{Method, Policies},
};
use dockctl_link::framing;
use http::{Response, StatusCode};
use metrics::{Counter, Gauge, Histogram};
use tonic::{Code, body::Body};

use super::at_end;

/// gRPC has this many codes.
const CODES: usize = 17;

/// The metrics of all rpcs; cheap to clone.
#[derive(Clone)]
pub struct Calls {
    methods: Arc<HashMap<String, Arc<Rpc>>>,
    others: Arc<Rpc>,
}

/// One rpc's metrics.
struct Rpc {
    name: String,
    by_code: [OnceLock<Counter>; CODES],
    open: Gauge,
    /// Of unary calls; how long somebody watches is no measure.
    seconds: Option<Histogram>,
}

impl Calls {
    /// For the rpcs of `policies`, with the recorder that is set by now.
    pub fn new(policies: &Policies) -> Self {
        let methods = policies.iter().map(|method| {
            let unary = !method.client_streaming && !method.server_streaming;
            (method.path.clone(), Arc::new(Rpc::new(name(method), unary)))
        });
        Self {
            methods: Arc::new(methods.collect()),
            others: Arc::new(Rpc::new("other".to_owned(), false)),
        }
    }

    /// A call begins.
    pub fn begin(&self, path: &str) -> Call {
        let rpc = self.methods.get(path).unwrap_or(&self.others).clone();
        rpc.open.increment(1.0);
        // A caller that hangs up leaves it so.
        Call { rpc, begun: Instant::now(), code: Code::Cancelled, counts: true }
    }
}

/// "ContainerService/ListContainers".
fn name(method: &Method) -> String {
    method.path.rsplit('.').next().unwrap_or_default().to_owned()
}

impl Rpc {
    fn new(name: String, unary: bool) -> Self {
        let label = || [("method", name.clone())];
        let open = metrics::gauge!("dockctl_calls_open", &label());
        open.set(0.0);
        let seconds = unary.then(|| metrics::histogram!("dockctl_call_seconds", &label()));
        let rpc = Self { name, by_code: Default::default(), open, seconds };
        rpc.counter(Code::Ok).increment(0);
        rpc
    }

    fn counter(&self, code: Code) -> &Counter {
        let index = usize::try_from(code as i32).unwrap_or(0).min(CODES - 1);
        self.by_code[index].get_or_init(|| {
            let labels = [("method", self.name.clone()), ("code", format!("{code:?}"))];
            metrics::counter!("dockctl_calls_total", &labels)
        })
    }
}

/// A call under way; its end is counted when it is dropped.
pub struct Call {
    rpc: Arc<Rpc>,
    begun: Instant,
    code: Code,
    /// Whether its time is a measure.
    counts: bool,
}

impl Call {
    /// Watches for the answer's end.
    pub fn answered(mut self, response: Response<Body>) -> Response<Body> {
        if response.status() != StatusCode::OK {
            // No gRPC call at all, which is no measure of the rpc either.
            (self.code, self.counts) = (Code::Unimplemented, false);
            return response;
        }
        // An answer without a body has its end in the head.
        if let Some(end) = framing::end_in(response.headers()) {
            self.ended(&end);
            return response;
        }
        response.map(|body| at_end(body, move |end| self.ended(end)))
    }

    fn ended(&mut self, end: &End) {
        self.code = end.code.into();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.rpc.open.decrement(1.0);
        self.rpc.counter(self.code).increment(1);
        if let Some(seconds) = self.rpc.seconds.as_ref().filter(|_| self.counts) {
            seconds.record(self.begun.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use dockctl_link::framing;
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tonic::Status;

    use super::*;

    const LIST: &str = "/dockctl.v1.ContainerService/ListContainers";

    #[tokio::test]
    async fn calls_are_counted_by_how_they_end() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let calls =
            metrics::with_local_recorder(&recorder, || Calls::new(&Policies::load().unwrap()));
        let shown = |line: &str| handle.render().lines().any(|l| l == line);
        let list = "dockctl_calls_total{method=\"ContainerService/ListContainers\"";
        assert!(shown(&format!("{list},code=\"Ok\"}} 0")), "{}", handle.render());

        let trailers =
            |status: &Status| -> HeaderMap { framing::trailers(&framing::end_of(status)) };
        metrics::with_local_recorder(&recorder, || {
            // Refused, hung up, and an end in the trailers.
            drop(calls.begin(LIST).answered(Status::not_found("no").into_http()));
            let call = calls.begin(LIST);
            drop(call);
            let ended = trailers(&Status::new(Code::Ok, ""));
            let body = Body::new(StreamBody::new(futures_util::stream::iter([Ok::<_, Status>(
                Frame::trailers(ended),
            )])));
            let answer = calls.begin(LIST).answered(Response::new(body));
            let open = "dockctl_calls_open{method=\"ContainerService/ListContainers\"} 1";
            assert!(shown(open), "{}", handle.render());
            let read = futures_util::FutureExt::now_or_never(answer.into_body().collect());
            read.unwrap().unwrap();
            drop(calls.begin("/no.Such/Rpc"));
            let mut plain = Response::new(Body::empty());
            *plain.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            drop(calls.begin(LIST).answered(plain));
        });
        for line in [
            &format!("{list},code=\"Ok\"}} 1"),
            &format!("{list},code=\"NotFound\"}} 1"),
            &format!("{list},code=\"Cancelled\"}} 1"),
            &format!("{list},code=\"Unimplemented\"}} 1"),
            "dockctl_calls_total{method=\"other\",code=\"Cancelled\"} 1",
            "dockctl_call_seconds_count{method=\"ContainerService/ListContainers\"} 3",
        ] {
            assert!(shown(line), "{line}: {}", handle.render());
        }
    }
}
