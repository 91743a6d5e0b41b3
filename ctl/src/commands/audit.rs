//! `audit`: who did what to which host, and whether the log of it is as it was written.

use dockctl_api::v1::{
    AuditEntry, AuditOutcome, ListAuditEntriesRequest, VerifyAuditRequest,
    WatchAuditEntriesRequest, audit_service_client::AuditServiceClient,
};

use super::Ctx;
use crate::{
    args::audit::Audit,
    error::{Error, Exit, Result},
    moment,
    output::{
        json,
        printer::{Printer, To},
        table::Table,
    },
    session::PATIENCE,
};

/// How long the controller may take to compute all hashes anew, unless `--timeout` says otherwise.
const VERIFYING: std::time::Duration = PATIENCE.saturating_mul(20);

/// `dockctl audit ...`.
pub(crate) async fn run(ctx: &Ctx, args: Audit) -> Result<()> {
    match args {
        Audit::Ls { last, by, on } => {
            let request =
                ListAuditEntriesRequest { page_size: last, principal: by, agent: on, before: 0 };
            ls(ctx, request).await
        }
        Audit::Export { after, follow } => {
            let mut printer = Printer::start(ctx.term, false)?;
            let result =
                export(ctx, WatchAuditEntriesRequest { after, follow }, &mut printer).await;
            printer.finish(result)
        }
        Audit::Verify { known } => verify(ctx, known.unwrap_or_default()).await,
    }
}

async fn ls(ctx: &Ctx, request: ListAuditEntriesRequest) -> Result<()> {
    let call = ctx.session.ask(|channel| {
        let request = request.clone();
        async move { AuditServiceClient::new(channel).list_audit_entries(request).await }
    });
    let mut entries = ctx.wait("reading the audit log", call).await?.entries;
    entries.reverse();
    ctx.show_list("AuditEntry", &entries, || table(&entries).show(ctx.term))
}

async fn export(ctx: &Ctx, request: WatchAuditEntriesRequest, printer: &mut Printer) -> Result<()> {
    let call = ctx.session.call(None, |channel| async move {
        AuditServiceClient::new(channel).watch_audit_entries(request).await
    });
    let mut entries = ctx.wait("reading the audit log", call).await?;
    while let Some(message) = entries.message().await? {
        let entry = message.entry.unwrap_or_default();
        let line = format!("{}\n", json::value("AuditEntry", &entry)?);
        printer.send(To::Out, line.into_bytes().into()).await?;
    }
    Ok(())
}

async fn verify(ctx: &Ctx, (known_sequence, known_hash): (u64, String)) -> Result<()> {
    let request = VerifyAuditRequest { known_sequence, known_hash };
    let call = ctx.session.call(ctx.session.patience(VERIFYING), |channel| {
        let request = request.clone();
        async move { AuditServiceClient::new(channel).verify_audit(request).await }
    });
    let answer = ctx.wait("verifying the audit log", call).await?;
    if answer.broken_sequence > 0 {
        let why = format!("entry {} of the audit log: {}", answer.broken_sequence, answer.problem);
        let good = format!("the {} entries before it are as they were written", answer.entries);
        return Err(Error::new(Exit::Failed, why).hint(good));
    }
    ctx.show("VerifyAuditResponse", &answer, || {
        let known = format!("{}:{}", answer.entries, answer.hash);
        format!(
            "{} entries, all as they were written\n\
             note this elsewhere, to prove it later: dockctl audit verify --known {known}\n",
            answer.entries
        )
    })
}

fn table(entries: &[AuditEntry]) -> Table {
    let mut table =
        Table::new(&["ENTRY", "TIME", "WHO", "FROM", "CALL", "HOST", "TARGET", "OUTCOME"])
            .giving_way(&[6, 3]);
    for entry in entries {
        let outcome = match (entry.outcome(), entry.begun) {
            (AuditOutcome::Begun, _) => "begun".to_owned(),
            (AuditOutcome::Done, 0) => "done".to_owned(),
            (AuditOutcome::Done, begun) => format!("done ({begun})"),
            (AuditOutcome::Denied, _) => format!("denied: {}", entry.reason),
            (_, begun) => {
                let code = tonic::Code::from(i32::try_from(entry.code).unwrap_or_default());
                let why = if entry.reason.is_empty() {
                    format!("{code:?}")
                } else {
                    entry.reason.clone()
                };
                if begun > 0 {
                    format!("failed ({begun}): {why}")
                } else {
                    format!("failed: {why}")
                }
            }
        };
        table.row(vec![
            entry.sequence.to_string().into(),
            moment::seconds(entry.at.as_ref()).into(),
            entry.principal.as_str().into(),
            entry.address.as_str().into(),
            entry.method.rsplit('/').next().unwrap_or_default().into(),
            entry.agent.as_str().into(),
            entry.target.as_str().into(),
            outcome.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn an_entry_says_who_did_what_where() {
        let entry = |sequence, outcome: AuditOutcome, code, reason: &str, begun| AuditEntry {
            sequence,
            at: Some(Timestamp { seconds: 0, nanos: 0 }),
            principal: "ada".into(),
            address: "10.0.0.7:5000".into(),
            method: "/dockctl.v1.ContainerService/StopContainer".into(),
            agent: "web-1".into(),
            target: "container=db\u{1b}[2J".into(),
            outcome: outcome.into(),
            code,
            reason: reason.into(),
            begun,
            hash: String::new(),
        };
        let shown = table(&[
            entry(1, AuditOutcome::Begun, 0, "", 0),
            entry(2, AuditOutcome::Done, 0, "", 1),
            entry(3, AuditOutcome::Failed, 5, "NOT_FOUND", 1),
            entry(4, AuditOutcome::Failed, 1, "", 0),
            entry(5, AuditOutcome::Denied, 7, "NOT_ALLOWED", 0),
        ])
        .render(false);
        let outcomes: Vec<&str> =
            shown.lines().skip(1).map(|line| line.rsplit("   ").next().unwrap()).collect();
        assert_eq!(
            outcomes,
            [
                "begun",
                "done (1)",
                "failed (1): NOT_FOUND",
                "failed: Cancelled",
                "denied: NOT_ALLOWED"
            ]
        );
        assert!(shown.contains("ada") && shown.contains("StopContainer"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }
}
