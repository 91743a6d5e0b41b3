//! The least that anything can do which ends TLS on both sides of a hop: it reads nothing of what passes. What it
//! leaves of one hop's rate is the most that a controller could on the same processors. A process of its own, as
//! the controller is; started by `link.rs`, it ends when its standard input does.

use std::{io::Read as _, sync::Arc};

use anyhow::Result;
use dockctl_api::tls::client_config;
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, split},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::at_once::{Ready, own_authority};

/// What is read from a socket at once, as much as the link does, and what is written at once, bytes.
const READ: usize = 128 << 10;
const PIECE: usize = 64 << 10;

/// Where to.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The address of the host's one hop.
    address: String,
    /// The certificate of its CA, hex DER.
    ca: String,
}

/// Relays until standard input ends.
pub(crate) async fn run(args: Args) -> Result<()> {
    let (tls, ca) = own_authority()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ready = Ready { address: listener.local_addr()?.to_string(), ca };
    println!("{}", serde_json::to_string(&ready)?);
    let host = Ready { address: args.address, ca: args.ca };
    tokio::spawn(async move {
        while let Ok((user, _)) = listener.accept().await {
            let tls = TlsAcceptor::from(tls.clone());
            let Ok(trust) = host.trust() else { return };
            let address = host.address.clone();
            tokio::spawn(async move {
                user.set_nodelay(true)?;
                let mut user = tls.accept(BufReader::with_capacity(READ, user)).await?;
                let host = TcpStream::connect(address).await?;
                host.set_nodelay(true)?;
                let name = host.peer_addr()?.ip().into();
                let tls = TlsConnector::from(Arc::new(client_config(trust, None)?));
                let mut host = tls.connect(name, BufReader::with_capacity(READ, host)).await?;
                user.get_mut().1.set_buffer_limit(Some(READ));
                host.get_mut().1.set_buffer_limit(Some(READ));
                let (from_user, to_user) = split(user);
                let (from_host, to_host) = split(host);
                tokio::try_join!(pump(from_user, to_host), pump(from_host, to_user))
            });
        }
    });
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

/// Passes on whatever has come, all of it at once.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let mut filled = from.read(&mut piece).await?;
        if filled == 0 {
            return Ok(to.shutdown().await?);
        }
        while let Some(Ok(more @ 1..)) = from.read(&mut piece[filled..]).now_or_never() {
            filled += more;
        }
        to.write_all(&piece[..filled]).await?;
        to.flush().await?;
    }
}
