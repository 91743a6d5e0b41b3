//! Logins of people whom the OpenID provider vouches for, and the users that are made of them.

use std::time::{Duration, SystemTime};

use dockctl_api::{
    error::{reason, status},
    v1::{DevicePrompt, LoginWithDeviceResponse, Role, Tokens, User},
};
use futures_util::{StreamExt as _, stream};
use tonic::{Code, Response, Status, codegen::BoxStream};

use super::Auth;
use crate::{
    app::{
        audit::LoggedIn,
        oidc::{Oidc, Person},
        users,
    },
    store::{StoreError, UserRecord},
};

/// A login of a person of the provider.
pub(super) struct External {
    pub(super) tokens: Tokens,
    pub(super) user: User,
    /// Who he is there, and what became of him here.
    pub(super) what: String,
}

impl Auth {
    /// The provider. Errors: OIDC_OFF.
    pub(super) fn oidc(&self) -> Result<&Oidc, Status> {
        self.shared.options.oidc.as_ref().ok_or_else(|| {
            let message = "this controller knows no OpenID provider; log in with a password";
            status(Code::FailedPrecondition, reason::OIDC_OFF, message, &[])
        })
    }

    /// Logs in whom the provider vouches for, for so long. Errors: NAME_TAKEN where another user is called so.
    pub(super) async fn by_person(
        &self,
        person: Person,
        lifetime: Duration,
    ) -> Result<External, Status> {
        let mut what = format!("oidc_subject={:?}", person.subject);
        let role = person.role;
        let user = match self.known_person(&person.subject).await? {
            Some(user) => user,
            None => {
                what.push_str(" new");
                self.new_person(person).await?
            }
        };
        let before = user.role;
        let user = self.with_role(user, role).await?;
        if user.role != before {
            what.push_str(&format!(" role={}", user.role.as_str_name()));
        }
        let tokens = self.begin(&user, Some(lifetime)).await?;
        tracing::info!(user = user.name, what, "logged in with the OpenID provider");
        Ok(External { tokens, user: users::message(user), what })
    }

    /// Logs in who says yes in a browser elsewhere: the prompt first, the tokens at the end.
    pub(super) async fn with_device(
        &self,
    ) -> Result<Response<BoxStream<LoginWithDeviceResponse>>, Status> {
        let (auth, oidc) = (self.clone(), self.oidc()?.clone());
        let device = oidc.device().await?;
        let shown = &device.prompt;
        let prompt = DevicePrompt {
            verification_uri: shown.verification_uri().to_string(),
            user_code: shown.user_code().secret().clone(),
            verification_uri_complete: shown
                .verification_uri_complete()
                .map(|uri| uri.secret().clone())
                .unwrap_or_default(),
            expires_at: Some((SystemTime::now() + device.expires_in()).into()),
        };
        let first = LoginWithDeviceResponse { prompt: Some(prompt), ..Default::default() };
        let login = LoggedIn::default();
        let who = login.clone();
        let last = async move {
            let person = oidc.by_device(&device).await?;
            let External { tokens, user, what } = auth.by_person(person, oidc.lifetime()).await?;
            login.tell(user.name.clone(), what);
            Ok(LoginWithDeviceResponse { prompt: None, tokens: Some(tokens), user: Some(user) })
        };
        let steps = stream::iter([Ok(first)]).chain(stream::once(last));
        let mut response: Response<BoxStream<_>> = Response::new(Box::pin(steps));
        response.extensions_mut().insert(who);
        Ok(response)
    }

    async fn known_person(&self, subject: &str) -> Result<Option<UserRecord>, Status> {
        Ok(StoreError::optional(self.shared.store.user_by_oidc_subject(subject).await)?)
    }

    async fn new_person(&self, person: Person) -> Result<UserRecord, Status> {
        let Person { subject, username, .. } = person;
        let no_password = String::new();
        let user = UserRecord {
            oidc_subject: Some(subject.clone()),
            ..self.new_user(&username, no_password, Role::None)
        };
        match self.shared.store.create_user(user.clone()).await {
            Ok(()) => Ok(user),
            // He logged in twice at once, or somebody else has his name.
            Err(StoreError::Conflict { .. }) => self.known_person(&subject).await?.ok_or_else(|| {
                tracing::warn!(subject, username, "a login was refused: the name is another user's");
                let message = format!(
                    "another user is called {username:?} here; an admin may remove that one, or have \
                     --oidc-username-claim name people otherwise"
                );
                status(Code::AlreadyExists, reason::NAME_TAKEN, message, &[("name", &username)])
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a user the role that he has at the provider.
    async fn with_role(&self, user: UserRecord, role: Option<Role>) -> Result<UserRecord, Status> {
        let Some(role) = role.filter(|role| *role != user.role) else { return Ok(user) };
        match self.shared.store.update_user_role(&user.id, role).await {
            Ok(user) => {
                self.rights_changed();
                Ok(user)
            }
            Err(StoreError::LastAdmin) => {
                tracing::warn!(user = user.name, "stays admin, being the last one");
                Ok(user)
            }
            Err(error) => Err(error.into()),
        }
    }
}
