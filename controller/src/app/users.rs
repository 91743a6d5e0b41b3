//! Who may log in and what each may do: UserService.

use std::time::SystemTime;

use dockctl_api::{
    error::{bad_field, reason, status},
    new_id,
    v1::{
        CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse, Grant,
        GrantRoleRequest, GrantRoleResponse, ListUsersRequest, ListUsersResponse,
        ResetPasswordRequest, ResetPasswordResponse, RevokeGrantRequest, RevokeGrantResponse, Role,
        UpdateUserRoleRequest, UpdateUserRoleResponse, User, user_service_server::UserService,
    },
};
use tonic::{Code, Request, Response, Status};

use super::{
    auth::{Auth, principal},
    names::{self, Selector},
};
use crate::store::{self, GrantRecord, UserRecord, system_time, unix_ms};

/// Most grants of one user.
const MAX_GRANTS: usize = 100;

/// UserService.
pub struct Users {
    /// The store.
    pub store: store::Handle,
    /// Hashes passwords and knows who has logged in.
    pub auth: Auth,
}

impl Users {
    async fn named(&self, username: &str) -> Result<UserRecord, Status> {
        self.store.user_by_name(username).await.map_err(|error| {
            error.or_missing(|| {
                let message = format!("no user is called {username:?}");
                status(Code::NotFound, reason::NOT_FOUND, message, &[("user", username)])
            })
        })
    }

    /// The user as he is after his rights were stored.
    fn changed(&self, user: UserRecord) -> User {
        self.auth.rights_changed();
        message(user)
    }
}

#[tonic::async_trait]
impl UserService for Users {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        principal(&request)?.in_person()?;
        let request = request.into_inner();
        names::user_name(&request.username)?;
        let role = match request.role {
            0 => Role::None,
            role => known(role)?,
        };
        let hash = self.auth.hash("password", request.password).await?;
        let user = self.auth.new_user(&request.username, hash, role);
        let created = self.store.create_user(user.clone()).await;
        created.map_err(|error| error.or_taken("a user", &user.name))?;
        Ok(Response::new(CreateUserResponse { user: Some(message(user)) }))
    }

    async fn list_users(
        &self,
        _: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let users = self.store.list_users().await?.into_iter().map(message).collect();
        Ok(Response::new(ListUsersResponse { users }))
    }

    async fn update_user_role(
        &self,
        request: Request<UpdateUserRoleRequest>,
    ) -> Result<Response<UpdateUserRoleResponse>, Status> {
        principal(&request)?.in_person()?;
        let UpdateUserRoleRequest { username, role } = request.into_inner();
        let role = known(role)?;
        let UserRecord { id, oidc_subject, .. } = self.named(&username).await?;
        if oidc_subject.is_some() && self.auth.provider_gives_roles() {
            let message = format!(
                "{username}'s role comes from groups of the OpenID provider (--oidc-role) and would be the same \
                 again at the next login; change the groups there"
            );
            return Err(status(Code::FailedPrecondition, reason::ROLE_OF_PROVIDER, message, &[]));
        }
        let user = self.changed(self.store.update_user_role(&id, role).await?);
        Ok(Response::new(UpdateUserRoleResponse { user: Some(user) }))
    }

    async fn reset_password(
        &self,
        request: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, Status> {
        principal(&request)?.in_person()?;
        let ResetPasswordRequest { username, password } = request.into_inner();
        let UserRecord { id, oidc_subject, .. } = self.named(&username).await?;
        if oidc_subject.is_some() {
            let message = "this user logs in with the OpenID provider and has no password";
            return Err(status(Code::FailedPrecondition, reason::NO_PASSWORD, message, &[]));
        }
        let hash = self.auth.hash("password", password).await?;
        self.changed(self.store.end_logins(&id, Some(hash), None).await?);
        self.auth.has_new_password(&username);
        Ok(Response::new(ResetPasswordResponse {}))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        principal(&request)?.in_person()?;
        let id = self.named(&request.get_ref().username).await?.id;
        self.store.delete_user(&id).await?;
        self.auth.rights_changed();
        Ok(Response::new(DeleteUserResponse {}))
    }

    async fn grant_role(
        &self,
        request: Request<GrantRoleRequest>,
    ) -> Result<Response<GrantRoleResponse>, Status> {
        let granter = principal(&request)?;
        granter.in_person()?;
        let created_by = granter.name;
        let GrantRoleRequest { username, role, selector } = request.into_inner();
        let role = useful(role)?;
        if Selector::parse(&selector)?.is_empty() {
            let message =
                "a grant selects agents by label; for the whole fleet give the user a role";
            return Err(bad_field("selector", message));
        }
        let user = self.named(&username).await?;
        if user.grants.len() >= MAX_GRANTS {
            return Err(bad_field("username", format!("a user has at most {MAX_GRANTS} grants")));
        }
        let created_at = unix_ms(SystemTime::now());
        let grant = GrantRecord { id: new_id(), role, selector, created_at, created_by };
        let user = self.changed(self.store.create_grant(&user.id, grant).await?);
        Ok(Response::new(GrantRoleResponse { user: Some(user) }))
    }

    async fn revoke_grant(
        &self,
        request: Request<RevokeGrantRequest>,
    ) -> Result<Response<RevokeGrantResponse>, Status> {
        principal(&request)?.in_person()?;
        let RevokeGrantRequest { username, id } = request.into_inner();
        let user = self.named(&username).await?;
        let user = self.store.delete_grant(&user.id, &id).await.map_err(|error| {
            error.or_missing(|| {
                let message = format!("{username} has no grant with the id {id:?}");
                let metadata = [("user", username.as_str()), ("grant", &id)];
                status(Code::NotFound, reason::NOT_FOUND, message, &metadata)
            })
        })?;
        Ok(Response::new(RevokeGrantResponse { user: Some(self.changed(user)) }))
    }
}

/// A role of a request. Errors: BAD_FIELD on `role`.
fn known(role: i32) -> Result<Role, Status> {
    Role::try_from(role).ok().filter(|role| *role != Role::Unspecified).ok_or_else(|| {
        bad_field("role", "a role is ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR or ROLE_ADMIN")
    })
}

/// A role of a request that allows something. Errors: BAD_FIELD on `role`.
pub(super) fn useful(role: i32) -> Result<Role, Status> {
    known(role).ok().filter(|role| *role != Role::None).ok_or_else(|| {
        bad_field("role", "the role here is ROLE_VIEWER, ROLE_OPERATOR or ROLE_ADMIN")
    })
}

/// A user as others see him.
pub(super) fn message(user: UserRecord) -> User {
    let grant = |grant: GrantRecord| Grant {
        id: grant.id,
        role: grant.role.into(),
        selector: grant.selector,
        created_at: Some(system_time(grant.created_at).into()),
        created_by: grant.created_by,
    };
    User {
        id: user.id,
        name: user.name,
        role: user.role.into(),
        grants: user.grants.into_iter().map(grant).collect(),
        created_at: Some(system_time(user.created_at).into()),
        oidc_subject: user.oidc_subject.unwrap_or_default(),
    }
}
