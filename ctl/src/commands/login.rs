//! `login`, `logout`, `whoami`: making, ending and telling the login that the configuration file keeps.

use std::io::{self, BufRead};

use dockctl_api::{
    tls::Trust,
    v1::{
        DevicePrompt, LoginRequest, LoginWithDeviceRequest, LogoutEverywhereRequest, LogoutRequest,
        Tokens, User, WhoAmIRequest, auth_service_client::AuthServiceClient,
    },
};

use super::{Ctx, agents::empty_answer, users};
use crate::{
    args::login::Login as LoginArgs,
    client::Channel,
    config::{self, Login},
    endpoint::Endpoint,
    error::{Error, Exit, Result},
    keyring, moment,
    output::{clean, human},
    session::{self, PATIENCE},
    trust,
};

/// `dockctl login URL --username U` or `--oidc`.
pub(crate) async fn login(ctx: &Ctx, args: LoginArgs) -> Result<()> {
    let url = args.to.as_deref().or(ctx.session.given_url());
    let url = url.ok_or_else(|| {
        Error::usage("login needs the controller's URL")
            .hint("for example: dockctl login https://controller.example:7443 --username admin")
    })?;
    let endpoint = Endpoint::parse(url)?;
    let path = ctx.session.path()?;
    let trusted = trusted(ctx, &endpoint).await?;
    // Before the password is asked for: a controller that is not there, or is another, gets none.
    let connect = || trust::connect(&endpoint, trusted.clone(), ctx.session.connect_within());
    let mut connected = ctx.wait("connecting", connect()).await?;
    let answer = match args.oidc {
        true => with_device(ctx, connected.channel.clone()).await,
        false => {
            let username = username(ctx, args.username)?;
            let password = password(ctx, args.password_stdin, &username)?;
            // A controller does not wait long for who types slowly.
            tokio::task::yield_now().await;
            if connected.channel.is_closed() {
                connected = ctx.wait("connecting", connect()).await?;
            }
            with_password(ctx, &connected.channel, LoginRequest { username, password }).await
        }
    };
    let (tokens, user) = answer.map_err(|error| session::wrong_scheme(error, &endpoint))?;

    let mut login = Login {
        context: args.context.unwrap_or_else(|| endpoint.authority()),
        url: endpoint.url(),
        username: clean(&user.name),
        ..Login::default()
    };
    let ca = trusted.as_ref().and_then(|t| trust::trusted_ca(t, &connected.chain));
    login.set_ca(ca.as_deref());
    let in_keyring = !args.no_keyring && keyring::may_be_there();
    let kept = session::keep(path, login, Some(tokens), in_keyring);
    let login = ctx.wait("keeping the login", kept).await?;
    let place =
        if login.keyring.is_empty() { "" } else { "; the system's keyring keeps the login" };
    ctx.term.notice(&format!("logged in to {} as {}{place}", login.url, login.username));
    if ctx.session.has_token() {
        ctx.term.notice("the token that is given (DOCKCTL_TOKEN, --token) wins over this login");
    }
    Ok(())
}

async fn with_password(
    ctx: &Ctx,
    channel: &Channel,
    request: LoginRequest,
) -> Result<(Tokens, User)> {
    let patience = ctx.session.patience(PATIENCE);
    let channel = channel.clone().with_deadline(patience);
    let call = async { AuthServiceClient::new(channel).login(request).await };
    let answer = ctx.wait("logging in", session::within(patience, call)).await?;
    answer.tokens.zip(answer.user).ok_or_else(empty_answer)
}

/// Waits until the user has said yes in a browser, as long as the provider does.
async fn with_device(ctx: &Ctx, channel: Channel) -> Result<(Tokens, User)> {
    let mut auth = AuthServiceClient::new(channel);
    let call = auth.login_with_device(LoginWithDeviceRequest {});
    let call = session::within(ctx.session.patience(PATIENCE), call);
    let mut steps = ctx.wait("asking the OpenID provider", call).await?;
    let Some(DevicePrompt { verification_uri, user_code, verification_uri_complete, .. }) =
        steps.message().await?.and_then(|step| step.prompt)
    else {
        return Err(empty_answer());
    };
    let (page, code) = (clean(&verification_uri), clean(&user_code));
    ctx.term.notice(&format!("open {page} in a browser and enter the code {code}"));
    if !verification_uri_complete.is_empty() {
        ctx.term.notice(&format!("or open {}", clean(&verification_uri_complete)));
    }
    let step = ctx.wait("waiting for the browser", steps.message()).await?;
    let step = step.ok_or_else(empty_answer)?;
    step.tokens.zip(step.user).ok_or_else(empty_answer)
}

/// `dockctl logout`: ends the login at the controller and forgets it here, reachable or not.
pub(crate) async fn logout(ctx: &Ctx, everywhere: bool) -> Result<()> {
    let Some(mut login) = ctx.session.login().await.filter(|l| !l.has_ended(moment::now())) else {
        ctx.term.notice("not logged in");
        return Ok(());
    };
    let locked = keyring::fill(&mut login).err();
    if everywhere {
        // Not forgotten here unless it has worked: the others go on otherwise.
        let call = ctx.session.ask(|channel| async move {
            AuthServiceClient::new(channel).logout_everywhere(LogoutEverywhereRequest {}).await
        });
        ctx.wait("ending all logins", call).await?;
    }
    let call = ctx.session.ask(|channel| {
        let request = LogoutRequest { refresh_token: login.refresh_token.clone() };
        async move { AuthServiceClient::new(channel).logout(request).await }
    });
    let ended = match locked {
        Some(error) => Err(error),
        None => ctx.wait("logging out", call).await.map(drop),
    };
    let path = ctx.session.path()?;
    let _lock = config::lock(path).await?;
    // URL and trust stay, so that the next login needs no fingerprint.
    let forgotten = Login {
        context: login.context.clone(),
        url: login.url.clone(),
        ca: login.ca.clone(),
        username: login.username.clone(),
        ..Login::default()
    };
    config::write(path, Some(&forgotten))?;
    keyring::forget(&login);
    match ended {
        Err(error) if error.is_transient() || !error.has_a_reason() => ctx.term.notice(
            "logged out here; the controller could not be told, so its side of the login ends by itself \
             within 30 days",
        ),
        _ if everywhere => {
            ctx.term.notice("logged out everywhere; API tokens go on: see `dockctl tokens ls`");
        }
        _ => ctx.term.notice(&format!("logged out of {}", login.url)),
    }
    Ok(())
}

/// `dockctl whoami`.
pub(crate) async fn whoami(ctx: &Ctx) -> Result<()> {
    let call = ctx.session.ask(|channel| async move {
        AuthServiceClient::new(channel).who_am_i(WhoAmIRequest {}).await
    });
    let answer = ctx.wait("asking the controller", call).await?;
    let url = ctx.session.endpoint().await?.url();
    ctx.show("WhoAmIResponse", &answer, || {
        let user = answer.user.clone().unwrap_or_default();
        let left = answer.access_expires_at.map_or(0, |t| t.seconds.saturating_sub(moment::now()));
        let (may, token) = match &answer.api_token {
            Some(token) => {
                let place = match clean(&token.selector) {
                    selector if selector.is_empty() => String::new(),
                    selector => format!(" on {selector}"),
                };
                // It never has more than its owner.
                let may =
                    format!("{}{place} at most, of {}", token.role().word(), users::may(&user));
                (may, format!("API token {}", clean(&token.name)))
            }
            None => (users::may(&user), "access token".to_owned()),
        };
        format!(
            "{} ({}) at {url}; {token} ends in {}\n",
            clean(&user.name),
            may,
            human::short_span(left)
        )
    })
}

/// Whom to trust: as told, as at the last login, or as a person says after looking.
async fn trusted(ctx: &Ctx, endpoint: &Endpoint) -> Result<Option<Trust>> {
    if !endpoint.secure {
        return Ok(None);
    }
    if let Some(trust) = ctx.session.given_trust() {
        return Ok(Some(trust.clone()));
    }
    let last = ctx.session.login().await.filter(|l| l.url == endpoint.url());
    if let Some(trust) = last.and_then(|l| trust::by_text(&l.ca)) {
        return Ok(Some(trust));
    }
    if !ctx.term.input {
        return Err(Error::usage(format!("nothing says which CA to trust for {}", endpoint.url()))
            .hint("pass --ca-fingerprint SHA256, which the controller prints at its start"));
    }
    let shown = ctx
        .wait("connecting", trust::shown_fingerprint(endpoint, ctx.session.connect_within()))
        .await?;
    ctx.term.notice(&format!(
        "{} is not known yet. Its CA has the SHA-256 fingerprint",
        endpoint.url()
    ));
    ctx.term.notice(&format!("  {shown}"));
    ctx.term.notice("Compare it with what dockctl-controller printed at its start.");
    match ctx.term.ask("Is it the same? [yes/no] ")?.as_deref() {
        Some("yes" | "y") => Ok(Some(Trust::CaFingerprint(shown))),
        _ => Err(Error::new(Exit::Failed, "the controller is not trusted; nothing was sent to it")),
    }
}

fn username(ctx: &Ctx, given: Option<String>) -> Result<String> {
    if let Some(name) = given.filter(|n| !n.is_empty()) {
        return Ok(name);
    }
    let asked = if ctx.term.input { ctx.term.ask("User name: ")? } else { None };
    asked
        .filter(|n| !n.is_empty())
        .ok_or_else(|| Error::usage("login needs a user name").hint("pass --username USER"))
}

/// A password that somebody is to have; asked for twice, where it is typed unseen.
pub(crate) fn new_password(ctx: &Ctx, from_stdin: bool, username: &str) -> Result<String> {
    if from_stdin || !ctx.term.input {
        return password(ctx, from_stdin, username);
    }
    let new = rpassword::prompt_password(format!("New password of {}: ", clean(username)))?;
    let again = rpassword::prompt_password("Once more: ")?;
    match (new.is_empty(), new == again) {
        (true, _) => Err(Error::usage("the password is empty")),
        (_, false) => Err(Error::usage("the two are not the same; nothing was changed")),
        _ => Ok(new),
    }
}

pub(crate) fn password(ctx: &Ctx, from_stdin: bool, username: &str) -> Result<String> {
    let password = if from_stdin {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        line.trim_end_matches(['\n', '\r']).to_owned()
    } else if ctx.term.input {
        rpassword::prompt_password(format!("Password of {}: ", clean(username)))?
    } else {
        return Err(Error::usage("nobody is there to be asked for the password")
            .hint("pass --password-stdin and the password on stdin"));
    };
    match password.is_empty() {
        true => Err(Error::usage("the password is empty")),
        false => Ok(password),
    }
}
