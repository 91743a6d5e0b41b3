//! `tokens`: what scripts carry instead of a login.

use dockctl_api::v1::{
    ApiToken, CreateApiTokenRequest, DeleteApiTokenRequest, ListApiTokensRequest,
    api_token_service_client::ApiTokenServiceClient,
};
use serde_json::{Map, Value};

use super::{Ctx, agents::empty_answer};
use crate::{
    args::{Format, people::ApiTokens},
    error::{Error, Result},
    moment,
    output::{self, clean, human, json, table::Table},
};

/// `dockctl tokens ...`.
pub(crate) async fn run(ctx: &Ctx, args: ApiTokens) -> Result<()> {
    match args {
        ApiTokens::Create { name, role, on, expires } => {
            let ttl = prost_types::Duration::try_from(expires.0)
                .map_err(|_| Error::usage("--expires is too long: at most 3650d"))?;
            let role = role.into();
            create(ctx, CreateApiTokenRequest { name, role, selector: on, ttl: Some(ttl) }).await
        }
        ApiTokens::Ls { all } => {
            let call = ctx.session.ask(|channel| async move {
                let request = ListApiTokensRequest { all };
                ApiTokenServiceClient::new(channel).list_api_tokens(request).await
            });
            let list = ctx.wait("listing tokens", call).await?.api_tokens;
            ctx.show_list("ApiToken", &list, || table(&list, moment::now()).show(ctx.term))
        }
        ApiTokens::Rm { id } => {
            let call = ctx.session.ask(|channel| {
                let request = DeleteApiTokenRequest { id: id.clone() };
                async move { ApiTokenServiceClient::new(channel).delete_api_token(request).await }
            });
            let answer = ctx.wait("deleting the token", call).await;
            let answer = answer.map_err(|e| e.hint("see which there are: dockctl tokens ls"))?;
            ctx.show("DeleteApiTokenResponse", &answer, || format!("{}\n", clean(&id)))
        }
    }
}

/// Prints the token alone on stdout, and for people how it is used on stderr.
async fn create(ctx: &Ctx, request: CreateApiTokenRequest) -> Result<()> {
    let call = ctx.session.ask(|channel| {
        let request = request.clone();
        async move { ApiTokenServiceClient::new(channel).create_api_token(request).await }
    });
    let answer = ctx.wait("making a token", call).await?;
    let record = answer.api_token.ok_or_else(empty_answer)?;
    if ctx.format != Format::Table {
        let mut object = Map::new();
        object.insert("token".to_owned(), Value::String(answer.token));
        if let Value::Object(fields) = json::value("ApiToken", &record)? {
            object.extend(fields);
        }
        return ctx.print_document(&Value::Object(object));
    }
    output::print(format!("{}\n", clean(&answer.token)).as_bytes())?;
    let ends = moment::seconds(record.expires_at.as_ref());
    ctx.term.notice(&format!(
        "it is shown this once and good until {ends}; a script sets DOCKCTL_TOKEN to it, DOCKCTL_URL, and \
         DOCKCTL_CA_FINGERPRINT or DOCKCTL_CA_FILE"
    ));
    Ok(())
}

fn table(tokens: &[ApiToken], now: i64) -> Table {
    let mut table =
        Table::new(&["NAME", "ID", "OWNER", "ROLE", "ON", "ENDS", "LAST USED"]).giving_way(&[4]);
    for token in tokens {
        let left = token.expires_at.map_or(0, |t| t.seconds.saturating_sub(now));
        let ends = match left {
            1.. => format!("in {}", human::short_span(left)),
            _ => "expired".to_owned(),
        };
        let used = match &token.last_used_at {
            Some(at) => human::ago(Some(at), now),
            None => "never".to_owned(),
        };
        table.row(vec![
            token.name.as_str().into(),
            token.id.as_str().into(),
            token.username.as_str().into(),
            token.role().word().into(),
            token.selector.as_str().into(),
            ends.into(),
            used.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use dockctl_api::v1::Role;
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn the_list_says_what_is_left_and_when_it_was_used() {
        let ci = ApiToken {
            id: "ab12".to_owned(),
            name: "ci".to_owned(),
            username: "ada".to_owned(),
            role: Role::Operator.into(),
            selector: "env=dev".to_owned(),
            expires_at: Some(Timestamp { seconds: 86_400, nanos: 0 }),
            last_used_at: Some(Timestamp { seconds: 0, nanos: 0 }),
            ..ApiToken::default()
        };
        let unused = ApiToken { last_used_at: None, expires_at: None, ..ci.clone() };
        let shown = table(&[ci, unused], 300).render(false);
        assert_eq!(
            shown,
            "NAME   ID     OWNER   ROLE       ON        ENDS      LAST USED\n\
             ci     ab12   ada     operator   env=dev   in 23h    5 minutes ago\n\
             ci     ab12   ada     operator   env=dev   expired   never\n"
        );
    }
}
