//! `users` and `roles`: who may log in, and what each may do.

use std::collections::BTreeMap;

use dockctl_api::{
    policy::Policies,
    v1::{
        ChangePasswordRequest, CreateUserRequest, DeleteUserRequest, GrantRoleRequest,
        ListUsersRequest, ResetPasswordRequest, RevokeGrantRequest, Role, UpdateUserRoleRequest,
        User, auth_service_client::AuthServiceClient, user_service_client::UserServiceClient,
    },
};

use super::{Ctx, agents::empty_answer, login};
use crate::{
    args::people::Users,
    error::{Error, Exit, Result},
    moment,
    output::{clean, human, table::Table},
    session,
};

/// `dockctl users ...`.
pub(crate) async fn run(ctx: &Ctx, args: Users) -> Result<()> {
    match args {
        Users::Create { name, role, password_stdin } => {
            let password = login::new_password(ctx, password_stdin, &name)?;
            create(ctx, CreateUserRequest { username: name, password, role: role.into() }).await
        }
        Users::Ls => {
            let users = list(ctx).await?;
            ctx.show_list("User", &users, || table(&users, moment::now()).show(ctx.term))
        }
        Users::Grant { name, role, on: Some(selector) } => {
            let request = GrantRoleRequest { username: name, role: role.into(), selector };
            let call = ctx.session.ask(|channel| {
                let request = request.clone();
                async move { UserServiceClient::new(channel).grant_role(request).await }
            });
            show(ctx, ctx.wait("granting the role", call).await?.user)
        }
        Users::Grant { name, role, on: None } => set_role(ctx, name, role).await,
        Users::Revoke { name, on: None } => set_role(ctx, name, Role::None).await,
        Users::Revoke { name, on: Some(selector) } => revoke(ctx, name, &selector).await,
        Users::Passwd { name, password_stdin } => passwd(ctx, name, password_stdin).await,
        Users::Rm { name, yes } => {
            ctx.confirm(yes, &format!("Remove {} with all logins and tokens?", clean(&name)))?;
            let call = ctx.session.ask(|channel| {
                let request = DeleteUserRequest { username: name.clone() };
                async move { UserServiceClient::new(channel).delete_user(request).await }
            });
            let answer = ctx.wait("removing the user", call).await?;
            ctx.show("DeleteUserResponse", &answer, || format!("{}\n", clean(&name)))
        }
    }
}

/// `dockctl roles`: what each role may do.
pub(crate) fn roles(ctx: &Ctx) -> Result<()> {
    let policies = Policies::load()
        .map_err(|error| Error::new(Exit::Failed, format!("the roles cannot be read: {error}")))?;
    let least: BTreeMap<&str, Role> = policies
        .iter()
        .filter(|m| !m.policy.is_public && m.policy.role() != Role::None)
        .map(|m| (m.policy.permission.as_str(), m.policy.role()))
        .collect();
    let roles = [Role::Viewer, Role::Operator, Role::Admin];
    let may = |role: Role| least.iter().filter(move |(_, least)| role >= **least).map(|(p, _)| *p);
    let value = roles.map(|role| {
        serde_json::json!({ "role": role.word(), "permissions": may(role).collect::<Vec<_>>() })
    });
    ctx.show_value(
        || Ok(value.to_vec().into()),
        || {
            let mut table = Table::new(&["PERMISSION", "VIEWER", "OPERATOR", "ADMIN"]);
            for (permission, least) in &least {
                let mut row = vec![(*permission).into()];
                row.extend(roles.map(|role| if role >= *least { "yes" } else { "" }.into()));
                table.row(row);
            }
            table.show(ctx.term)
        },
    )
}

async fn create(ctx: &Ctx, request: CreateUserRequest) -> Result<()> {
    let call = ctx.session.ask(|channel| {
        let request = request.clone();
        async move { UserServiceClient::new(channel).create_user(request).await }
    });
    show(ctx, ctx.wait("making the user", call).await?.user)
}

async fn list(ctx: &Ctx) -> Result<Vec<User>> {
    let call = ctx.session.ask(|channel| async move {
        UserServiceClient::new(channel).list_users(ListUsersRequest {}).await
    });
    Ok(ctx.wait("listing users", call).await?.users)
}

async fn set_role(ctx: &Ctx, username: String, role: Role) -> Result<()> {
    let request = UpdateUserRoleRequest { username, role: role.into() };
    let call = ctx.session.ask(|channel| {
        let request = request.clone();
        async move { UserServiceClient::new(channel).update_user_role(request).await }
    });
    show(ctx, ctx.wait("changing the role", call).await?.user)
}

async fn revoke(ctx: &Ctx, name: String, selector: &str) -> Result<()> {
    let users = list(ctx).await?;
    let user = users.into_iter().find(|user| user.name == name).ok_or_else(|| {
        Error::new(Exit::NotFound, format!("no user is called {:?}", clean(&name)))
            .hint("see which there are: dockctl users ls")
    })?;
    let grants: Vec<_> = user.grants.iter().filter(|grant| grant.selector == selector).collect();
    if grants.is_empty() {
        let message = format!("{} has no grant on {:?}", clean(&name), clean(selector));
        return Err(
            Error::new(Exit::NotFound, message).hint("see what was granted: dockctl users ls")
        );
    }
    let mut last = None;
    for grant in grants {
        let request = RevokeGrantRequest { username: name.clone(), id: grant.id.clone() };
        let call = ctx.session.ask(|channel| {
            let request = request.clone();
            async move { UserServiceClient::new(channel).revoke_grant(request).await }
        });
        last = ctx.wait("taking the grant away", call).await?.user;
    }
    show(ctx, last)
}

async fn passwd(ctx: &Ctx, name: Option<String>, from_stdin: bool) -> Result<()> {
    let login = ctx.session.login().await.unwrap_or_default();
    if let Some(name) = name.filter(|name| *name != login.username) {
        let password = login::new_password(ctx, from_stdin, &name)?;
        let request = ResetPasswordRequest { username: name.clone(), password };
        let call = ctx.session.ask(|channel| {
            let request = request.clone();
            async move { UserServiceClient::new(channel).reset_password(request).await }
        });
        ctx.wait("changing the password", call).await?;
        ctx.term.notice(&format!("{} has a new password and must log in again", clean(&name)));
        return Ok(());
    }
    let old_password = login::password(ctx, from_stdin, &login.username)?;
    let new_password = login::new_password(ctx, from_stdin, &login.username)?;
    let request = ChangePasswordRequest { old_password, new_password };
    let call = ctx.session.ask(|channel| {
        let request = request.clone();
        async move { AuthServiceClient::new(channel).change_password(request).await }
    });
    let tokens = ctx.wait("changing the password", call).await?.tokens;
    let in_keyring = !login.keyring.is_empty();
    session::keep(ctx.session.path()?, login, tokens, in_keyring).await?;
    ctx.term.notice("changed; all other logins have ended");
    Ok(())
}

fn show(ctx: &Ctx, user: Option<User>) -> Result<()> {
    let user = user.ok_or_else(empty_answer)?;
    ctx.show("User", &user, || format!("{}: {}\n", clean(&user.name), may(&user)))
}

/// What a user may do, in one line: "viewer, operator on env=dev".
pub(super) fn may(user: &User) -> String {
    let grants = user.grants.iter();
    let grants = grants.map(|g| format!("{} on {}", g.role().word(), clean(&g.selector)));
    std::iter::once(user.role().word().to_owned()).chain(grants).collect::<Vec<_>>().join(", ")
}

fn table(users: &[User], now: i64) -> Table {
    let mut table = Table::new(&["NAME", "ROLE", "GRANTS", "LOGIN", "CREATED"]).giving_way(&[2]);
    for user in users {
        let grants = user.grants.iter();
        let grants: Vec<_> =
            grants.map(|g| format!("{} on {}", g.role().word(), g.selector)).collect();
        table.row(vec![
            user.name.as_str().into(),
            user.role().word().into(),
            grants.join("; ").into(),
            if user.oidc_subject.is_empty() { "password" } else { "OpenID" }.into(),
            human::ago(user.created_at.as_ref(), now).into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use dockctl_api::v1::Grant;
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn the_list_says_who_may_what() {
        let grant = |role: Role, selector: &str| Grant {
            role: role.into(),
            selector: selector.to_owned(),
            ..Grant::default()
        };
        let ada = User {
            name: "ada".to_owned(),
            role: Role::Viewer.into(),
            grants: vec![grant(Role::Operator, "env=dev"), grant(Role::Admin, "lab")],
            created_at: Some(Timestamp { seconds: 0, nanos: 0 }),
            ..User::default()
        };
        assert_eq!(may(&ada), "viewer, operator on env=dev, admin on lab");
        assert_eq!(
            table(&[ada], 300).render(false),
            "NAME   ROLE     GRANTS                              LOGIN      CREATED\n\
             ada    viewer   operator on env=dev; admin on lab   password   5 minutes ago\n"
        );
    }
}
