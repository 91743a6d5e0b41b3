//! Who we are to the controller: finds URL, trust and token among flags, variables and the kept login,
//! opens the connection when the first call needs it and again after it broke, and renews the access
//! token. Every command calls through [`Session::call`].

use std::{
    cell::RefCell,
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use dockctl_api::{
    error::reason,
    tls::Trust,
    v1::{RefreshRequest, Tokens, auth_service_client::AuthServiceClient},
};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{Mutex, mpsc};
use tonic::{Response, Status, Streaming};

use crate::{
    args::Global,
    client::{self, Channel},
    config::{self, Config, Login},
    endpoint::Endpoint,
    error::{Error, Exit, Result},
    keyring, moment, trust,
};

/// How long all waiting for the controller's limits may take: a change of some hundred hosts comes through.
const MOST_WAITING: Duration = Duration::from_secs(300);
/// How long a call may take when nobody says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// An access token that ends sooner than this is renewed first, seconds.
const RENEW_BEFORE: i64 = 30;

/// The way to the controller.
pub(crate) struct Session {
    path: Option<PathBuf>,
    url: Option<String>,
    token: Option<String>,
    trust: Option<Trust>,
    timeout: Option<Duration>,
    state: Mutex<State>,
}

/// An open call that goes both ways.
pub(crate) struct Open<Req, Res> {
    /// What goes up after the first message.
    pub(crate) up: mpsc::Sender<Req>,
    /// The first message of the answer.
    pub(crate) first: Option<Res>,
    /// The answer's other messages.
    pub(crate) down: Streaming<Res>,
}

struct State {
    login: Option<Login>,
    channel: Option<Channel>,
}

impl Session {
    /// Takes what flags and file say; connects to nothing yet.
    pub(crate) fn new(global: &Global, path: Option<PathBuf>, config: Config) -> Result<Self> {
        let trust = match (&global.ca_file, &global.ca_fingerprint) {
            (Some(file), _) => Some(trust::by_file(file)?),
            (None, Some(text)) => Some(trust::by_fingerprint(text)?),
            (None, None) => None,
        };
        Ok(Self {
            path,
            url: global.url.clone(),
            token: global.token.clone(),
            trust,
            timeout: global.patience(),
            state: Mutex::new(State { login: config.login, channel: None }),
        })
    }

    /// The configuration file.
    pub(crate) fn path(&self) -> Result<&Path> {
        self.path.as_deref().ok_or_else(|| {
            Error::usage("there is no place for the configuration file")
                .hint("set HOME, or pass --config FILE")
        })
    }

    /// The URL given by flag or variable, if any.
    pub(crate) fn given_url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The trust given by flag or variable, if any.
    pub(crate) fn given_trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// The kept login, if there is one; its tokens may be in the keyring.
    pub(crate) async fn login(&self) -> Option<Login> {
        self.state.lock().await.login.clone()
    }

    /// The controller that calls go to.
    pub(crate) async fn endpoint(&self) -> Result<Endpoint> {
        self.endpoint_of(self.state.lock().await.login.as_ref())
    }

    fn endpoint_of(&self, login: Option<&Login>) -> Result<Endpoint> {
        match self.url.as_deref().or(login.map(|login| login.url.as_str())) {
            Some(url) => Endpoint::parse(url),
            None if self.token.is_some() => {
                Err(Error::usage("there is a token, but nothing says for which controller")
                    .hint("set DOCKCTL_URL, and DOCKCTL_CA_FINGERPRINT or DOCKCTL_CA_FILE"))
            }
            None => Err(not_logged_in("URL")),
        }
    }

    /// Whether a token was given that wins over a login.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// How long a call may take: what the user said, or else `usual`.
    pub(crate) fn patience(&self, usual: Duration) -> Option<Duration> {
        Some(self.timeout.unwrap_or(usual))
    }

    /// How long connecting may take.
    pub(crate) fn connect_within(&self) -> Duration {
        self.timeout.unwrap_or(client::CONNECT).min(client::CONNECT)
    }

    /// Makes a unary call with the usual patience.
    pub(crate) async fn ask<T, F, Fut>(&self, run: F) -> Result<T>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        self.call(self.patience(PATIENCE), run).await
    }

    /// Makes a call; again where the controller asks to wait for a limit of its own, for as long as the user said at most,
    /// and one more time where the controller finds the token too old although our clock does
    /// not. Without a deadline (streams) the connection's keepalive notices a dead peer.
    pub(crate) async fn call<T, F, Fut>(&self, deadline: Option<Duration>, run: F) -> Result<T>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let mut waited = Duration::ZERO;
        let most = self.timeout.unwrap_or(MOST_WAITING);
        let (answer, token) = loop {
            let (channel, token) = self.channel(None).await?;
            let answer = within(deadline, run(channel.with_deadline(deadline))).await;
            match answer.as_ref().err().and_then(Error::wait) {
                Some(wait) if waited + wait <= most => {
                    tokio::time::sleep(wait).await;
                    waited += wait;
                }
                _ => break (answer, token),
            }
        };
        match answer {
            Err(error) if self.token.is_none() && error.has_reason(reason::TOKEN_EXPIRED) => {
                let (channel, _) = self.channel(Some(&token)).await?;
                within(deadline, run(channel.with_deadline(deadline))).await
            }
            Err(error) => {
                let endpoint = self.endpoint().await?;
                Err(wrong_scheme(self.stale_token(error), &endpoint))
            }
            result => result,
        }
    }

    /// Opens a call that goes both ways and waits until it is answered; `queue` messages wait to go up at
    /// most. A second try begins anew: none but the first message is there before the call is through.
    pub(crate) async fn open<Req, Res, F, Fut>(
        &self,
        first: Req,
        queue: usize,
        rpc: F,
    ) -> Result<Open<Req, Res>>
    where
        Req: Clone + Send + 'static,
        F: Fn(Channel, BoxStream<'static, Req>) -> Fut,
        Fut: Future<Output = std::result::Result<Response<Streaming<Res>>, Status>>,
    {
        let up = RefCell::new(None);
        let call = self.call(None, |channel| {
            let (sender, mut received) = mpsc::channel(queue);
            up.replace(Some(sender));
            let rest = stream::poll_fn(move |cx| received.poll_recv(cx));
            rpc(channel, stream::iter([first.clone()]).chain(rest).boxed())
        });
        let mut down = call.await?;
        let first = down.message().await?;
        let up = up.take().ok_or_else(|| Error::new(Exit::Failed, "the call was never made"))?;
        Ok(Open { up, first, down })
    }

    /// Says where a refused token came from, since a login would not be used instead of it.
    fn stale_token(&self, error: Error) -> Error {
        let refused = [reason::NOT_LOGGED_IN, reason::TOKEN_EXPIRED, reason::TOKEN_INVALID];
        let Some(token) = &self.token else { return error };
        if !refused.into_iter().any(|reason| error.has_reason(reason)) {
            return error;
        }
        let from = match std::env::var("DOCKCTL_TOKEN") {
            Ok(set) if set == *token => "DOCKCTL_TOKEN is set",
            _ => "a token was given",
        };
        error.hint(format!("{from} and wins over the login: leave it out to use the login"))
    }

    /// The connection with a good token, and that token. A token that was `refused` is not used again.
    async fn channel(&self, refused: Option<&str>) -> Result<(Channel, String)> {
        let mut state = self.state.lock().await;
        let endpoint = self.endpoint_of(state.login.as_ref())?;
        // A login's token and trust are for its own controller, never for another that was named.
        let mut login = state.login.clone().filter(|l| l.url == endpoint.url());
        if let Some(login) = login.as_mut().filter(|_| self.token.is_none()) {
            keyring::fill(login)?;
        }
        if self.token.is_none() && login.as_ref().is_none_or(|l| l.access_token.is_empty()) {
            return Err(not_logged_in(&endpoint.url()));
        }
        let open = state.channel.take().filter(|c| !c.is_closed());
        let channel = match open {
            Some(channel) => channel,
            None => {
                let kept = || login.as_ref().and_then(|l| trust::by_text(&l.ca));
                trust::connect(&endpoint, self.trust.clone().or_else(kept), self.connect_within())
                    .await?
                    .channel
            }
        };
        let token = match (&self.token, login) {
            (Some(token), _) => token.clone(),
            (None, Some(login)) => {
                let login = Box::pin(self.renewed(login, refused, &channel)).await?;
                let token = login.access_token.clone();
                state.login = Some(login);
                token
            }
            (None, None) => return Err(not_logged_in(&endpoint.url())),
        };
        state.channel = Some(channel.clone());
        Ok((channel.with_token(&token)?, token))
    }

    /// The login with an access token that is still good for a while.
    async fn renewed(
        &self,
        login: Login,
        refused: Option<&str>,
        channel: &Channel,
    ) -> Result<Login> {
        let good = |l: &Login| {
            l.access_expires_at > moment::now() + RENEW_BEFORE
                && refused.is_none_or(|token| token != l.access_token)
        };
        if good(&login) {
            return Ok(login);
        }
        let path = self.path()?;
        let _lock = config::lock(path).await?;
        // Another dockctl may have renewed it, or logged out, while we waited for the lock.
        let mut kept = config::read(path)?.login.filter(|l| l.url == login.url);
        if let Some(kept) = &mut kept {
            keyring::fill(kept)?;
        }
        let mut login = match kept {
            Some(login) if good(&login) => return Ok(login),
            Some(login) if !login.refresh_token.is_empty() => login,
            _ => return Err(not_logged_in(&login.url)),
        };
        let request = RefreshRequest { refresh_token: login.refresh_token.clone() };
        let call = async { AuthServiceClient::new(channel.clone()).refresh(request).await };
        let answer = match within(self.patience(PATIENCE), call).await {
            Err(error) if error.code() == Exit::NotAuthorised as u8 => {
                return Err(expired(&login, &error));
            }
            result => result?,
        };
        keep_tokens(&mut login, answer.tokens)?;
        keyring::put(&mut login);
        config::write(path, Some(&login))?;
        Ok(login)
    }
}

/// Writes a login with fresh tokens into the configuration file, its tokens into the keyring where it is wanted and
/// answers. One of another context that is there goes to the others.
pub(crate) async fn keep(
    path: &Path,
    mut login: Login,
    tokens: Option<Tokens>,
    in_keyring: bool,
) -> Result<Login> {
    keep_tokens(&mut login, tokens)?;
    let _lock = config::lock(path).await?;
    let before = config::read(path)?.login;
    let mut others = config::others(path)?;
    let (same, moves) = match before {
        Some(before) if before.context == login.context => (Some(before), None),
        before => (None, before.filter(|before| !before.context.is_empty())),
    };
    let replaced = others.remove(&login.context);
    if moves.is_some() || replaced.is_some() {
        others.extend(moves.map(|before| (before.context.clone(), before)));
        config::write_others(path, &others)?;
    }
    if in_keyring {
        login.keyring = dockctl_api::new_id();
        keyring::put(&mut login);
    }
    config::write(path, Some(&login))?;
    same.iter().chain(&replaced).for_each(keyring::forget);
    Ok(login)
}

/// Puts fresh tokens into a login.
fn keep_tokens(login: &mut Login, tokens: Option<Tokens>) -> Result<()> {
    let tokens = tokens.ok_or_else(|| Error::new(Exit::Failed, "the controller sent no tokens"))?;
    login.access_token = tokens.access_token;
    login.access_expires_at = tokens.access_expires_at.map_or(0, |t| t.seconds);
    login.refresh_token = tokens.refresh_token;
    login.refresh_expires_at = tokens.refresh_expires_at.map_or(0, |t| t.seconds);
    Ok(())
}

/// Waits for an answer. The controller is told the deadline and should answer first; the little more
/// is for a controller that does not.
pub(crate) async fn within<T>(
    deadline: Option<Duration>,
    call: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    let result = match deadline {
        None => call.await,
        Some(deadline) => {
            let grace = Duration::from_secs(1);
            tokio::time::timeout(deadline + grace, call).await.map_err(|_| {
                Error::new(Exit::Failed, format!("no answer within {} s", deadline.as_secs_f32()))
                    .hint("the call may have run; give it more time with --timeout, for example 2m")
            })?
        }
    };
    Ok(result?.into_inner())
}

/// Adds what is most likely wrong where plain HTTP gets no answer.
pub(crate) fn wrong_scheme(error: Error, endpoint: &Endpoint) -> Error {
    match !endpoint.secure && error.code() == Exit::Unreachable as u8 && !error.has_a_reason() {
        true => {
            error.hint(format!("a controller speaks TLS: write https://{}", endpoint.authority()))
        }
        false => error,
    }
}

fn not_logged_in(url: &str) -> Error {
    Error::new(Exit::NotAuthorised, "not logged in")
        .hint(format!("log in: dockctl login {url} --username USER (or --oidc)"))
        .hint("scripts can set DOCKCTL_URL and DOCKCTL_TOKEN instead")
}

fn expired(login: &Login, error: &Error) -> Error {
    let why = error.told().map(|f| f.message.clone()).unwrap_or_default();
    Error::new(Exit::NotAuthorised, format!("the login has ended: {why}")).hint(format!(
        "log in again: dockctl login {} --username {} (or --oidc)",
        login.url, login.username
    ))
}
