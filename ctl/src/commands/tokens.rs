//! `agents token`: the join tokens that let new hosts in.

use dockctl_api::v1::{
    CreateJoinTokenRequest, DeleteJoinTokenRequest, JoinToken, ListJoinTokensRequest,
    agent_service_client::AgentServiceClient,
};
use serde_json::{Map, Value};

use super::{Ctx, agents::empty_answer, label, labels};
use crate::{
    args::{Format, Tokens},
    error::{Error, Result},
    moment,
    output::{self, clean, human, json, table::Table},
};

/// The agents' port of a controller that is too old to tell its own.
const AGENTS_PORT: u32 = 7444;

/// `dockctl agents token ...`.
pub(crate) async fn run(ctx: &Ctx, args: Tokens) -> Result<()> {
    match args {
        Tokens::Create { uses, ttl, label: pairs, description } => {
            let labels = pairs.iter().map(|p| label(p)).collect::<Result<_>>()?;
            let ttl = prost_types::Duration::try_from(ttl.0)
                .map_err(|_| Error::usage("--ttl is too long: at most 30d"))?;
            let request =
                CreateJoinTokenRequest { description, max_uses: uses, ttl: Some(ttl), labels };
            create(ctx, request).await
        }
        Tokens::Ls => ls(ctx).await,
        Tokens::Rm { id } => rm(ctx, id).await,
    }
}

/// Prints the token alone on stdout, and for people the command that uses it on stderr.
async fn create(ctx: &Ctx, request: CreateJoinTokenRequest) -> Result<()> {
    let call = ctx.session.ask(|channel| {
        let request = request.clone();
        async move { AgentServiceClient::new(channel).create_join_token(request).await }
    });
    let answer = ctx.wait("making a token", call).await?;
    let record = answer.join_token.ok_or_else(empty_answer)?;
    let port = if answer.agents_port == 0 { AGENTS_PORT } else { answer.agents_port };
    let token = answer.token;
    if ctx.format != Format::Table {
        let mut object = Map::new();
        object.insert("token".to_owned(), Value::String(token));
        if let Value::Object(fields) = json::value("JoinToken", &record)? {
            object.extend(fields);
        }
        return ctx.print_document(&Value::Object(object));
    }
    output::print(format!("{}\n", clean(&token)).as_bytes())?;
    let host = ctx.session.endpoint().await?.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let ends = moment::seconds(record.expires_at.as_ref());
    ctx.term.notice(&format!(
        "good for {} host(s) until {ends}; on each of them run:",
        record.max_uses
    ));
    ctx.term.notice(&format!(
        "  dockctl-agent join {host}:{port} --token {} --data-dir /var/lib/dockctl-agent",
        clean(&token)
    ));
    Ok(())
}

async fn ls(ctx: &Ctx) -> Result<()> {
    let call = ctx.session.ask(|channel| async move {
        AgentServiceClient::new(channel).list_join_tokens(ListJoinTokensRequest {}).await
    });
    let list = ctx.wait("listing tokens", call).await?.join_tokens;
    ctx.show_list("JoinToken", &list, || table(&list, moment::now()).show(ctx.term))
}

async fn rm(ctx: &Ctx, id: String) -> Result<()> {
    let call = ctx.session.ask(|channel| {
        let request = DeleteJoinTokenRequest { id: id.clone() };
        async move { AgentServiceClient::new(channel).delete_join_token(request).await }
    });
    let answer = ctx
        .wait("deleting the token", call)
        .await
        .map_err(|e| e.about(clean(&id)).hint("see which there are: dockctl agents token ls"))?;
    ctx.show("DeleteJoinTokenResponse", &answer, || format!("{}\n", clean(&id)))
}

fn table(tokens: &[JoinToken], now: i64) -> Table {
    let mut table = Table::new(&["ID", "USES", "ENDS", "CREATED", "BY", "LABELS", "DESCRIPTION"])
        .giving_way(&[5, 6]);
    for token in tokens {
        let left = token.expires_at.map_or(0, |t| t.seconds.saturating_sub(now));
        let ends = match left {
            1.. => format!("in {}", human::short_span(left)),
            _ => "expired".to_owned(),
        };
        table.row(vec![
            token.id.as_str().into(),
            format!("{}/{}", token.uses, token.max_uses).into(),
            ends.into(),
            human::ago(token.created_at.as_ref(), now).into(),
            token.created_by.as_str().into(),
            labels(&token.labels).into(),
            token.description.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn the_list_says_what_is_left() {
        let token = JoinToken {
            id: "ab12".to_owned(),
            max_uses: 5,
            uses: 1,
            created_at: Some(Timestamp { seconds: 0, nanos: 0 }),
            expires_at: Some(Timestamp { seconds: 1800, nanos: 0 }),
            created_by: "admin".to_owned(),
            description: "rack 4".to_owned(),
            ..JoinToken::default()
        };
        assert_eq!(
            table(&[token], 300).render(false),
            "ID     USES   ENDS     CREATED         BY      LABELS   DESCRIPTION\n\
             ab12   1/5    in 25m   5 minutes ago   admin            rack 4\n"
        );
    }
}
