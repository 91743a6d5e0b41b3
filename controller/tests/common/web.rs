//! A plain HTTP client for what browsers and curl send, over HTTP/1.1 and HTTP/2.

use super::*;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// An answer that has come to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl World {
    /// A TLS connection to the users' port.
    pub async fn tls(&self, version: Version) -> TlsStream<TcpStream> {
        let trust = Trust::CaFingerprint(self.fingerprint.clone());
        let mut config = client_config(trust, None).unwrap();
        config.alpn_protocols = match version {
            Version::HTTP_2 => vec![b"h2".to_vec()],
            _ => vec![b"http/1.1".to_vec()],
        };
        let tcp = TcpStream::connect(self.api).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    /// Sends a request and reads the answer to its end.
    pub async fn send(
        &self,
        version: Version,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let io = TokioIo::new(self.tls(version).await);
        let uri = match version {
            Version::HTTP_2 => format!("https://{}{path}", self.api),
            _ => path.to_owned(),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if version != Version::HTTP_2 {
            request = request.header("host", self.api.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = if version == Version::HTTP_2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        let (head, body) = response.into_parts();
        let body = timeout(LIMIT, body.collect()).await.unwrap().unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    /// Sends JSON with a token.
    pub async fn json(&self, token: &str, rpc: &str, body: &str) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", &*authorization)];
        let path = format!("/dockctl.v1.{rpc}");
        self.send(Version::HTTP_11, "POST", &path, &headers, body.to_owned()).await
    }
}
