//! A local socket whose connections are those of a host's Docker API: each accepted one is a
//! ConnectDocker stream of its own. Used by `docker` and `docker-socket`; it reads nothing of what passes.

use std::{
    fs,
    future::Future,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use dockctl_api::{
    PIECE,
    v1::{ConnectDockerRequest, ConnectDockerResponse, docker_service_client::DockerServiceClient},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
};
use tonic::Streaming;

use crate::{
    args::Listen,
    error::{Error, Exit, Result},
    output::{Term, clean},
    resolve,
    session::{Open, Session},
};

/// Connections at the same time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// How long a host may take to end a call whose client has gone.
const LEAVING: Duration = Duration::from_secs(2);
/// Messages on their way up.
const QUEUE: usize = 2;
/// The largest message that comes, bytes: a piece of 1 MiB and its frame.
const MAX_MESSAGE: usize = (1 << 20) + 1024;
/// How much of a request is read before it is told that there is no way to the host, bytes.
const MAX_HEAD: usize = 64 << 10;
/// How long a client may take for that.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// An open socket for Docker clients.
pub(crate) struct Tunnel {
    kind: Kind,
    /// As `DOCKER_HOST` has it.
    pub(crate) url: String,
    /// The file to remove at the end.
    _file: Option<SocketFile>,
}

enum Kind {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Who shows people the answer that a client gets where there is no way to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clients {
    /// Nobody here: they are programs elsewhere.
    Elsewhere,
    /// The client itself, on our own standard error.
    Here,
}

/// A client's connection.
trait Client: AsyncRead + AsyncWrite + AsFd + Unpin {}
impl Client for UnixStream {}
impl Client for TcpStream {}

impl Tunnel {
    /// Opens the socket. One whose program has gone is replaced; one that is in use never is, nor any
    /// other file.
    pub(crate) async fn bind(listen: &Listen) -> Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let failed = |e| cannot(&address.to_string(), &e);
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let url = format!("tcp://{}", listener.local_addr()?);
                Ok(Self { kind: Kind::Tcp(listener), url, _file: None })
            }
            Listen::Unix(path) => {
                let shown = path.display().to_string();
                remove_stale(path, &shown).await?;
                let listener = bind_private(path).map_err(|e| cannot(&shown, &e))?;
                let file = SocketFile::new(path).map_err(|e| cannot(&shown, &e))?;
                let url = format!("unix://{shown}");
                Ok(Self { kind: Kind::Unix(listener), url, _file: Some(file) })
            }
        }
    }

    /// Serves clients, for ever. What is wrong with the way to the host is told to them, and here once unless
    /// they show it themselves.
    pub(crate) async fn serve(
        &self,
        session: &Session,
        term: Term,
        agent: &str,
        clients: Clients,
    ) -> Result<()> {
        let way = Way { session, agent, term, clients, told: Mutex::default() };
        serve(term, async || self.accept().await, |client| way.carry(client)).await
    }

    async fn accept(&self) -> io::Result<Box<dyn Client>> {
        Ok(match &self.kind {
            Kind::Unix(listener) => Box::new(listener.accept().await?.0),
            Kind::Tcp(listener) => {
                let (client, _) = listener.accept().await?;
                client.set_nodelay(true)?;
                Box::new(client)
            }
        })
    }
}

/// Carries each connection that is accepted, many at the same time, for ever.
pub(crate) async fn serve<C, Fut: Future<Output = ()>>(
    term: Term,
    accept: impl AsyncFn() -> io::Result<C>,
    carry: impl Fn(C) -> Fut,
) -> Result<()> {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok(client) => connections.push(carry(client)),
                Err(error) => {
                    term.notice(&format!("dockctl: a connection was not accepted: {error}"));
                    // One client's misfortune, unless there are no descriptors left: then one of ours
                    // must end first.
                    if connections.next().await.is_none() {
                        return Err(error.into());
                    }
                }
            },
            Some(()) = connections.next() => {}
        }
    }
}

fn cannot(place: &str, error: &io::Error) -> Error {
    Error::new(Exit::Failed, format!("cannot listen at {place}: {error}"))
}

/// Removes what a program that has gone has left.
async fn remove_stale(path: &Path, shown: &str) -> Result<()> {
    let refused = |why: &str| Error::new(Exit::Failed, format!("cannot listen at {shown}: {why}"));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot(shown, &error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(refused("a file that is no socket is there, and stays there"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| cannot(shown, &e))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(cannot(shown, &error)),
        _ => Err(refused("another program listens there")),
    }
}

/// Binds a socket that nobody else may use, not for a moment either.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    use rustix::{fs::Mode, process::umask};
    // This program has one thread, so that nothing else is made meanwhile.
    let before = umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// Our socket's file; removed at the end if it is still the same.
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: id(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id(&self.path).is_ok_and(|now| now == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The way to one host.
struct Way<'a> {
    session: &'a Session,
    agent: &'a str,
    term: Term,
    clients: Clients,
    /// What was said last, so that it is not said for each connection.
    told: Mutex<String>,
}

impl Way<'_> {
    /// Carries one client's connection to its end.
    async fn carry(&self, mut client: Box<dyn Client>) {
        let first = ConnectDockerRequest { agent: self.agent.to_owned(), ..Default::default() };
        let opened = self.session.open(first, QUEUE, |channel, upstream| async {
            DockerServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .connect_docker(upstream)
                .await
        });
        // The first message has no data: it says that the agent has it.
        match opened.await {
            Ok(Open { up, down, .. }) => {
                self.tell(String::new());
                if let Err(error) = through(&mut client, up, down).await {
                    self.tell_error(&error);
                }
            }
            Err(error) => {
                let error = resolve::explain_agent(self.session, self.agent, error).await;
                if self.clients == Clients::Elsewhere {
                    self.tell_error(&error);
                }
                // A client that does not want to know is no fault.
                let _ = tokio::time::timeout(HEAD_WITHIN, refuse(&mut client, &error)).await;
            }
        }
    }

    fn tell_error(&self, error: &Error) {
        if let Some(failure) = error.told() {
            self.tell(clean(&failure.message));
        }
    }

    /// Says it on stderr unless it was said before; nothing means that all is well.
    fn tell(&self, text: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != text && !text.is_empty() {
            self.term.notice(&format!("{}: {text}", clean(self.agent)));
        }
        *told = text;
    }
}

/// Copies both ways until the host has said all or the client is gone; a client that closes its side
/// only may still read.
async fn through(
    client: &mut Box<dyn Client>,
    up: mpsc::Sender<ConnectDockerRequest>,
    mut down: Streaming<ConnectDockerResponse>,
) -> Result<()> {
    let gone = hung_up(client.as_fd().try_clone_to_owned()?);
    let (mut from, mut to) = tokio::io::split(client);
    let sending = async {
        let mut buffer = BytesMut::new();
        loop {
            if buffer.capacity() < PIECE / 16 {
                buffer.reserve(PIECE);
            }
            match from.read_buf(&mut buffer).await {
                Ok(1..) => {}
                _ => break,
            }
            let data = buffer.split().freeze();
            let piece = ConnectDockerRequest { agent: String::new(), data };
            if up.send(piece).await.is_err() {
                break;
            }
        }
        drop(up);
        // The host's end is what ends it.
        std::future::pending::<()>().await;
    };
    let receiving = async {
        while let Some(piece) = down.message().await? {
            if to.write_all(&piece.data).await.is_err() {
                break; // The client is gone.
            }
        }
        let _ = to.shutdown().await;
        Ok::<_, Error>(())
    };
    tokio::select! {
        ended = receiving => ended?,
        () = sending => {}
        () = gone => {}
    }
    // What the client has sent is at its end now, upon which the host ends the call: an end in order, where to
    // drop it would look like a fault.
    let rest = async { while down.message().await.is_ok_and(|piece| piece.is_some()) {} };
    let _ = tokio::time::timeout(LEAVING, rest).await;
    Ok(())
}

/// Waits until the other side has closed its socket, and not only its sending half.
async fn hung_up(socket: OwnedFd) {
    // Through a descriptor of its own, so that what is noted here is not taken from reads and writes. Of
    // which family the socket is makes no difference to the waiting.
    if let Ok(socket) = UnixStream::from_std(socket.into()) {
        while let Ok(ready) = socket.ready(Interest::WRITABLE).await {
            if ready.is_write_closed() {
                return;
            }
            let seen = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = socket.try_io(Interest::WRITABLE, seen);
        }
    }
    // Not to be told; a write will.
    std::future::pending().await
}

/// Answers a request as an engine would that cannot do it.
async fn refuse(client: &mut Box<dyn Client>, error: &Error) -> io::Result<()> {
    let mut head = BytesMut::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < MAX_HEAD {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let status = match error.code() {
        code if code == Exit::NotAuthorised as u8 => "403 Forbidden",
        code if code == Exit::NotFound as u8 => "404 Not Found",
        _ => "503 Service Unavailable",
    };
    let text = error.told().map(ToString::to_string).unwrap_or_default();
    let body = serde_json::json!({ "message": format!("dockctl: {text}") }).to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await?;
    // What is unread at a close would make the client's read fail.
    head.clear();
    while client.read_buf(&mut head).await? > 0 {
        head.clear();
    }
    Ok(())
}
