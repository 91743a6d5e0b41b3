//! `port-forward`: listens here and carries each connection as a stream of its own to a container's port. A
//! connection that fails is told and ends alone; the listening goes on, also while the link is lost.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bytes::{Bytes, BytesMut};
use dockctl_api::{
    PIECE,
    v1::{ForwardPortRequest, ForwardPortResponse, forward_service_client::ForwardServiceClient},
};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tonic::Streaming;

use super::{Ctx, inspect::inspect};
use crate::{
    args::{
        Format,
        forward::{Pair, PortForward},
    },
    error::{Error, Exit, Result},
    output::{self, clean, json},
    resolve::{self, Target},
    session::Open,
    tunnel,
};

/// Messages on their way up.
const QUEUE: usize = 1;

/// `dockctl port-forward REF [LOCAL:]PORT...`.
pub(crate) async fn run(ctx: &Ctx, args: PortForward) -> Result<()> {
    let resolving = resolve::resolve(&ctx.session, &args.container);
    let target = ctx.wait("looking for the container", resolving).await?;
    // A container that is not there is told now, and not to each connection.
    if let Err(error) = inspect(ctx, &target).await {
        return Err(resolve::explain(&ctx.session, &target, error).await);
    }
    let mut listeners = Vec::new();
    for pair in &args.pairs {
        for address in &args.address {
            listeners.push((listen(*address, *pair).await?, pair.remote));
        }
    }
    for (listener, remote) in &listeners {
        tell(ctx, &target, listener.local_addr()?, *remote)?;
    }
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let carry = |(local, peer, remote)| connection(ctx, &target, remote, local, peer);
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        failed = tunnel::serve(ctx.term, async || accept(&listeners).await, carry) => failed,
    }
}

async fn listen(address: IpAddr, pair: Pair) -> Result<TcpListener> {
    let address = SocketAddr::new(address, pair.local);
    TcpListener::bind(address).await.map_err(|error| {
        let hint = format!("choose another port here, for example 0:{}", pair.remote);
        Error::new(Exit::Failed, format!("cannot listen on {address}: {error}")).hint(hint)
    })
}

fn tell(ctx: &Ctx, target: &Target, local: SocketAddr, remote: u16) -> Result<()> {
    let text = match ctx.format {
        Format::Table => {
            format!("Forwarding from {local} -> {}:{remote}\n", clean(&target.shown()))
        }
        format => {
            let (agent, container) = (&target.agent, &target.container);
            let value = json!({
                "local": local.to_string(), "agent": agent, "container": container, "port": remote,
            });
            json::item(format, &value)?
        }
    };
    Ok(output::print(text.as_bytes())?)
}

/// The next connection on any of the listeners, and the port that it is for.
async fn accept(listeners: &[(TcpListener, u16)]) -> io::Result<(TcpStream, SocketAddr, u16)> {
    let each = listeners.iter().map(|(listener, remote)| {
        Box::pin(async { listener.accept().await.map(|(local, peer)| (local, peer, *remote)) })
    });
    futures_util::future::select_all(each).await.0
}

/// One connection to its end.
async fn connection(ctx: &Ctx, target: &Target, port: u16, local: TcpStream, peer: SocketAddr) {
    // A broken connection is the business of its two ends.
    if let Err(error) = carry(ctx, target, port, local).await
        && let Error::Told(_) = error
    {
        let error = resolve::explain(&ctx.session, target, error).await;
        if let Some(failure) = error.told() {
            ctx.term.notice(&format!("dockctl: connection from {peer} to port {port}: {failure}"));
        }
    }
}

async fn carry(ctx: &Ctx, target: &Target, port: u16, local: TcpStream) -> Result<()> {
    local.set_nodelay(true)?;
    let first = ForwardPortRequest {
        agent: target.agent.clone(),
        container: target.container.clone(),
        port: port.into(),
        data: Bytes::new(),
    };
    let opened = ctx.session.open(first, QUEUE, |channel, upstream| async {
        ForwardServiceClient::new(channel).forward_port(upstream).await
    });
    // The first message has no bytes: the connection is open.
    let Open { up: queue, down: answer, .. } = opened.await?;
    let (read, write) = local.into_split();
    let mut sending = std::pin::pin!(send(read, queue));
    let mut receiving = std::pin::pin!(receive(answer, write));
    let mut sent = false;
    loop {
        tokio::select! {
            // The answer's end is the connection's.
            received = &mut receiving => return received,
            result = &mut sending, if !sent => match result {
                Ok(()) => sent = true,
                Err(_) => return Err(Error::BrokenPipe),
            },
        }
    }
}

/// What comes from here, in as large pieces as it comes; no buffer is held while nothing does.
async fn send(from: OwnedReadHalf, queue: mpsc::Sender<ForwardPortRequest>) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = BytesMut::with_capacity(PIECE);
        let data = match from.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) if read < PIECE / 4 => Bytes::copy_from_slice(&buffer),
            Ok(_) => buffer.freeze(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let request = ForwardPortRequest { data, ..Default::default() };
        if queue.send(request).await.is_err() {
            return Ok(()); // The answer says why.
        }
    }
}

/// What comes from the container, to its end.
async fn receive(mut answer: Streaming<ForwardPortResponse>, mut to: OwnedWriteHalf) -> Result<()> {
    let broken = |_| Error::BrokenPipe;
    while let Some(message) = answer.message().await? {
        if message.data.is_empty() {
            to.shutdown().await.map_err(broken)?;
        } else {
            to.write_all(&message.data).await.map_err(broken)?;
        }
    }
    Ok(())
}
