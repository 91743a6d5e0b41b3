//! A TCP proxy that breaks the link in the ways a network does: cut, stalled, refused.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Open,
    /// Connections stay and move this many bytes each way; then no byte moves.
    Stalled(usize),
    /// New connections are closed at once.
    Refusing,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct State {
    mode: Mode,
    /// Connections of an older generation are closed.
    generation: u64,
}

/// Forwards connections from its own port to another. Ends when dropped.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl TcpProxy {
    /// Listens on a loopback port of the system's choice.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, watch) = watch::channel(State { mode: Mode::Open, generation: 0 });
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = watch.clone();
                tokio::spawn(async move {
                    // A broken connection is this module's purpose.
                    let _ = carry(client, target, state).await;
                });
            }
        });
        Ok(Self { address, state, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection; new ones may come.
    pub fn cut(&self) {
        self.state.send_modify(|s| s.generation += 1);
    }

    /// Keeps every connection open and moves no byte, as a dead network does.
    pub fn stall(&self) {
        self.stall_after(0);
    }

    /// The same once a connection has moved that many bytes in a direction, up to a read of 64 KiB more.
    pub fn stall_after(&self, bytes: usize) {
        self.state.send_modify(|s| s.mode = Mode::Stalled(bytes));
    }

    /// Closes every connection and lets no new one through.
    pub fn refuse(&self) {
        self.state
            .send_modify(|s| *s = State { mode: Mode::Refusing, generation: s.generation + 1 });
    }

    /// Forwards again.
    pub fn resume(&self) {
        self.state.send_modify(|s| s.mode = Mode::Open);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, target: SocketAddr, state: watch::Receiver<State>) -> Result<()> {
    let now = *state.borrow();
    if now.mode == Mode::Refusing {
        return Ok(());
    }
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        r = pump(from_client, to_server, state.clone(), now.generation) => r,
        r = pump(from_server, to_client, state, now.generation) => r,
    }
}

/// Moves bytes one way until the stream ends or is cut. Both ways end together, as in a cut.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    generation: u64,
) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut moved = 0;
    loop {
        tokio::select! {
            n = from.read(&mut buffer) => match n? {
                0 => return Ok(()),
                n => {
                    // What was read as a stall began is held like the rest.
                    if !may_pass(&mut state, generation, moved).await? {
                        return Ok(());
                    }
                    to.write_all(&buffer[..n]).await?;
                    moved += n;
                }
            },
            changed = state.changed() => changed?,
        }
        if !may_pass(&mut state, generation, moved).await? {
            return Ok(());
        }
    }
}

/// Waits while a connection that has moved so many bytes is stalled; false when those of this generation are closed.
async fn may_pass(
    state: &mut watch::Receiver<State>,
    generation: u64,
    moved: usize,
) -> Result<bool> {
    let stalled = |s: &State| matches!(s.mode, Mode::Stalled(most) if moved >= most);
    let now = *state.wait_for(|s| !stalled(s) || s.generation != generation).await?;
    Ok(now.generation == generation)
}
