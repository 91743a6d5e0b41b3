//! Logins from the first start to the last token, under a clock that jumps.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicI64, Ordering},
};

use dockctl_api::error::{metadata_of, reason_of};

use super::*;
use crate::store::Sqlite;
use dockctl_api::v1::{
    ChangePasswordRequest, LoginRequest, LoginResponse, LogoutEverywhereRequest, LogoutRequest,
    RefreshRequest, SignUpRequest, WhoAmIRequest, auth_service_server::AuthService as _,
};

const PASSWORD: &str = "correct horse";
const DAY: i64 = 86_400_000;

struct Fixture {
    directory: tempfile::TempDir,
    store: store::Handle,
    now: Arc<AtomicI64>,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&directory.path().join("dockctl.db")).await.unwrap();
        let now = Arc::new(AtomicI64::new(1_763_800_000_000));
        Self { directory, store: Arc::new(store), now }
    }

    async fn open(&self, password: Option<&str>) -> Result<Auth, AuthError> {
        let now = Arc::clone(&self.now);
        let clock: Clock = Arc::new(move || system_time(now.load(Ordering::Relaxed)));
        let password = password.map(str::to_owned);
        let options = LoginOptions { allow_signup: true, oidc: None };
        Auth::open(Arc::clone(&self.store), self.directory.path(), password, options, clock).await
    }

    fn jump(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::Relaxed);
    }

    fn password_file(&self) -> PathBuf {
        self.directory.path().join("initial-admin-password")
    }
}

async fn login(auth: &Auth, username: &str, password: &str) -> Result<LoginResponse, Status> {
    let request = LoginRequest { username: username.to_owned(), password: password.to_owned() };
    auth.login(Request::new(request)).await.map(tonic::Response::into_inner)
}

async fn refresh(auth: &Auth, tokens: &Tokens) -> Result<Tokens, Status> {
    let request = RefreshRequest { refresh_token: tokens.refresh_token.clone() };
    Ok(auth.refresh(Request::new(request)).await?.into_inner().tokens.unwrap())
}

fn reason(refused: Status) -> String {
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    reason_of(&refused).unwrap()
}

#[tokio::test]
async fn a_login_gives_tokens_that_work() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(Some(PASSWORD)).await.unwrap();
    let answer = login(&auth, "admin", PASSWORD).await.unwrap();
    let (tokens, user) = (answer.tokens.unwrap(), answer.user.unwrap());
    assert_eq!((user.name.as_str(), user.role()), ("admin", Role::Admin));
    let now = fixture.now.load(Ordering::Relaxed) / 1000;
    assert_eq!(tokens.access_expires_at.unwrap().seconds, now + 15 * 60);
    assert_eq!(tokens.refresh_expires_at.unwrap().seconds, now + 30 * 86_400);

    let principal = auth.authenticate(&tokens.access_token).await.unwrap();
    assert_eq!((&principal.user_id, &principal.name), (&user.id, &user.name));
    assert!(principal.authority.everywhere(Role::Admin));

    let anonymous = auth.who_am_i(Request::new(WhoAmIRequest {})).await.unwrap_err();
    assert_eq!(reason(anonymous), "NOT_LOGGED_IN");
    let mut request = Request::new(WhoAmIRequest {});
    request.extensions_mut().insert(principal);
    let who = auth.who_am_i(request).await.unwrap().into_inner();
    assert_eq!((who.user.unwrap(), who.access_expires_at), (user, tokens.access_expires_at));
}

#[tokio::test]
async fn wrong_passwords_and_unknown_users_look_alike() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(Some(PASSWORD)).await.unwrap();
    let wrong = login(&auth, "admin", "battery staple").await.unwrap_err();
    let unknown = login(&auth, "eve", PASSWORD).await.unwrap_err();
    assert_eq!((wrong.message(), wrong.details()), (unknown.message(), unknown.details()));
    assert_eq!(reason(wrong), "BAD_CREDENTIALS");
    assert_eq!(reason(unknown), "BAD_CREDENTIALS");

    let long = "x".repeat(1025);
    for (username, password, field) in [
        ("", PASSWORD, "username"),
        (&"ü".repeat(65), PASSWORD, "username"),
        ("admin", "", "password"),
        ("admin", &long, "password"),
    ] {
        let refused = login(&auth, username, password).await.unwrap_err();
        assert_eq!(metadata_of(&refused, "field").as_deref(), Some(field));
    }
}

#[tokio::test]
async fn refresh_tokens_work_once_and_reuse_ends_the_login() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(Some(PASSWORD)).await.unwrap();
    let first = login(&auth, "admin", PASSWORD).await.unwrap().tokens.unwrap();
    let other = login(&auth, "admin", PASSWORD).await.unwrap().tokens.unwrap();
    let second = refresh(&auth, &first).await.unwrap();
    let third = refresh(&auth, &second).await.unwrap();
    auth.authenticate(&third.access_token).await.unwrap();

    assert_eq!(reason(refresh(&auth, &first).await.unwrap_err()), "REFRESH_REUSED");
    let stolen = auth.authenticate(&third.access_token).await.unwrap_err();
    assert_eq!(reason(stolen), "NOT_LOGGED_IN", "nor does what was made of it go on");
    assert_eq!(reason(refresh(&auth, &third).await.unwrap_err()), "REFRESH_REUSED");
    refresh(&auth, &other).await.unwrap();
    for bad in ["", "nonsense", &"x".repeat(5000), &third.access_token] {
        let bad = Tokens { refresh_token: bad.to_owned(), ..Default::default() };
        assert_eq!(reason(refresh(&auth, &bad).await.unwrap_err()), "TOKEN_INVALID");
    }
    let refused = auth.authenticate(&other.refresh_token).await.unwrap_err();
    assert_eq!(reason(refused), "NOT_LOGGED_IN", "a refresh token is no access token");
}

#[tokio::test]
async fn logout_ends_the_login() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(Some(PASSWORD)).await.unwrap();
    let tokens = login(&auth, "admin", PASSWORD).await.unwrap().tokens.unwrap();
    let principal = auth.authenticate(&tokens.access_token).await.unwrap();
    for token in ["unknown", &"x".repeat(5000), &tokens.refresh_token, &tokens.refresh_token] {
        let mut request = Request::new(LogoutRequest { refresh_token: token.to_owned() });
        request.extensions_mut().insert(principal.clone());
        auth.logout(request).await.unwrap();
    }
    assert_eq!(reason(refresh(&auth, &tokens).await.unwrap_err()), "TOKEN_INVALID");
    let ended = auth.authenticate(&tokens.access_token).await.unwrap_err();
    assert_eq!(reason(ended), "NOT_LOGGED_IN", "its access token has ended too");
    let anonymous = auth.logout(Request::new(LogoutRequest::default())).await.unwrap_err();
    assert_eq!(reason(anonymous), "NOT_LOGGED_IN");
}

#[tokio::test]
async fn a_clock_that_jumps_a_day_locks_nobody_out() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(Some(PASSWORD)).await.unwrap();
    let mut tokens = login(&auth, "admin", PASSWORD).await.unwrap().tokens.unwrap();
    for jump in [DAY, -DAY, -DAY, DAY, 3_600_000, -3_600_000] {
        fixture.jump(jump);
        let refused = auth.authenticate(&tokens.access_token).await.unwrap_err();
        assert_eq!(reason(refused), "TOKEN_EXPIRED");
        tokens = refresh(&auth, &tokens).await.unwrap();
        auth.authenticate(&tokens.access_token).await.unwrap();
    }
    fixture.jump(31 * DAY);
    assert_eq!(reason(refresh(&auth, &tokens).await.unwrap_err()), "TOKEN_INVALID");
}

fn called<T>(message: T, principal: &Principal) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(principal.clone());
    request
}

/// Makes a user with our password who may do nothing.
async fn sign_up(auth: &Auth, username: &str) -> Tokens {
    let request = SignUpRequest { username: username.to_owned(), password: PASSWORD.to_owned() };
    auth.sign_up(Request::new(request)).await.unwrap().into_inner().tokens.unwrap()
}

#[tokio::test]
async fn a_deleted_user_is_out_within_seconds() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(Some(PASSWORD)).await.unwrap();
    let tokens = sign_up(&auth, "ada").await;
    let principal = auth.authenticate(&tokens.access_token).await.unwrap();
    assert!(!principal.authority.somewhere(Role::Viewer));
    fixture.store.delete_user(&principal.user_id).await.unwrap();
    // As where another controller has deleted him.
    fixture.jump(5_000);
    let refused = auth.authenticate(&tokens.access_token).await.unwrap_err();
    assert_eq!(reason(refused), "NOT_LOGGED_IN");
    assert_eq!(reason(refresh(&auth, &tokens).await.unwrap_err()), "TOKEN_INVALID");
}

#[tokio::test]
async fn a_new_password_ends_all_logins_at_once() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(Some(PASSWORD)).await.unwrap();
    let mut before = sign_up(&auth, "ada").await;
    let other = login(&auth, "ada", PASSWORD).await.unwrap().tokens.unwrap();
    let principal = auth.authenticate(&before.access_token).await.unwrap();
    let change = |old: &str, new: &str| ChangePasswordRequest {
        old_password: old.to_owned(),
        new_password: new.to_owned(),
    };
    let wrong = auth.change_password(called(change("nonsense", "new password"), &principal)).await;
    assert_eq!(reason(wrong.unwrap_err()), "BAD_CREDENTIALS");
    let short = auth.change_password(called(change(PASSWORD, "short"), &principal)).await;
    let field = metadata_of(&short.unwrap_err(), "field");
    assert_eq!(field.as_deref(), Some("new_password"));

    let changed = auth.change_password(called(change(PASSWORD, "new password"), &principal)).await;
    let after = changed.unwrap().into_inner().tokens.unwrap();
    for tokens in [&before, &other] {
        let refused = auth.authenticate(&tokens.access_token).await.unwrap_err();
        assert_eq!(reason(refused), "NOT_LOGGED_IN");
        assert_eq!(reason(refresh(&auth, tokens).await.unwrap_err()), "TOKEN_INVALID");
    }
    auth.authenticate(&after.access_token).await.unwrap();
    assert_eq!(reason(login(&auth, "ada", PASSWORD).await.unwrap_err()), "BAD_CREDENTIALS");
    before = login(&auth, "ada", "new password").await.unwrap().tokens.unwrap();

    let principal = auth.authenticate(&before.access_token).await.unwrap();
    auth.logout_everywhere(called(LogoutEverywhereRequest {}, &principal)).await.unwrap();
    for tokens in [&before, &after] {
        let refused = auth.authenticate(&tokens.access_token).await.unwrap_err();
        assert_eq!(reason(refused), "NOT_LOGGED_IN");
    }
}

#[tokio::test]
async fn the_file_with_the_first_password_goes_with_it() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(None).await.unwrap();
    let file = fixture.directory.path().join("initial-admin-password");
    let first = std::fs::read_to_string(&file).unwrap().trim_end().to_owned();
    let tokens = login(&auth, "admin", &first).await.unwrap().tokens.unwrap();
    let principal = auth.authenticate(&tokens.access_token).await.unwrap();
    let change = |old_password: &str| ChangePasswordRequest {
        old_password: old_password.to_owned(),
        new_password: "new password".to_owned(),
    };
    let wrong = auth.change_password(called(change("nonsense"), &principal)).await.unwrap_err();
    assert!(wrong.message().contains("old password") && file.exists(), "{wrong}");
    auth.change_password(called(change(&first), &principal)).await.unwrap();
    assert!(!file.exists());
}

#[tokio::test]
async fn strangers_make_users_only_with_good_names_and_where_they_may() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(Some(PASSWORD)).await.unwrap();
    for (name, password, code) in [
        ("Ada", PASSWORD, Code::InvalidArgument),
        ("a/b", PASSWORD, Code::InvalidArgument),
        ("ada", "short", Code::InvalidArgument),
        ("admin", PASSWORD, Code::AlreadyExists),
    ] {
        let request = SignUpRequest { username: name.to_owned(), password: password.to_owned() };
        let refused = auth.sign_up(Request::new(request)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name}");
    }
    let (store, dir) = (Arc::clone(&fixture.store), fixture.directory.path());
    let closed =
        Auth::open(store, dir, None, LoginOptions::default(), system_clock()).await.unwrap();
    let request = SignUpRequest { username: "ada".to_owned(), password: PASSWORD.to_owned() };
    let refused = closed.sign_up(Request::new(request)).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some("SIGNUP_OFF"));
}

#[tokio::test]
async fn logins_outlive_a_restart() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(Some(PASSWORD)).await.unwrap();
    let tokens = login(&auth, "admin", PASSWORD).await.unwrap().tokens.unwrap();
    drop(auth);
    // The password of later starts does not matter, not even a bad one.
    let auth = fixture.open(Some("x")).await.unwrap();
    auth.authenticate(&tokens.access_token).await.unwrap();
    refresh(&auth, &tokens).await.unwrap();
    login(&auth, "admin", PASSWORD).await.unwrap();
    assert!(!fixture.password_file().exists());
    let key = fixture.directory.path().join("jwt.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&key, "short").unwrap();
    let refused = fixture.open(None).await.err().unwrap();
    assert!(refused.to_string().contains("jwt.key"), "{refused}");
}

#[tokio::test]
async fn the_first_password_is_random_and_in_a_private_file() {
    let fixture = Fixture::new().await;
    let auth = fixture.open(None).await.unwrap();
    let path = fixture.password_file();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let password = fs::read_to_string(&path).unwrap().trim_end().to_owned();
    assert_eq!(password.len(), 20);
    login(&auth, "admin", &password).await.unwrap();
}

#[tokio::test]
async fn a_crash_while_the_first_user_is_made_leaves_a_password_that_works() {
    let fixture = Fixture::new().await;
    // The file was written and the user was not.
    fs::write(fixture.password_file(), "from-before-the-crash\n").unwrap();
    let auth = fixture.open(None).await.unwrap();
    login(&auth, "admin", "from-before-the-crash").await.unwrap();

    let fixture = Fixture::new().await;
    fs::write(fixture.password_file(), "from-before-the-crash\n").unwrap();
    let auth = fixture.open(Some(PASSWORD)).await.unwrap();
    login(&auth, "admin", PASSWORD).await.unwrap();
    assert!(!fixture.password_file().exists(), "a password that does not work is not kept");
}

#[tokio::test]
async fn a_weak_first_password_is_refused() {
    let fixture = Fixture::new().await;
    for weak in ["", "seven77", &"x".repeat(1025)] {
        let refused = fixture.open(Some(weak)).await.err().unwrap();
        assert!(refused.to_string().contains("DOCKCTL_ADMIN_PASSWORD"), "{refused}");
    }
    assert!(!fixture.store.has_users().await.unwrap());
}
