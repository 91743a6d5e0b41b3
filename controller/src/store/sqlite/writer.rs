//! The one task that writes. It takes whatever writes are waiting, runs each in a savepoint of one
//! transaction, and answers all of them after the one commit: many writes share one fsync, so ten
//! thousand agents that come back at once do not wait for ten thousand of them.
//!
//! Writers queue here rather than on SQLite's lock, and a caller that hangs up stops nothing. After
//! any fault of the disk the whole batch is refused and the connection is made anew, since SQLite may
//! have rolled back more than the write that failed.

use std::time::Instant;

use futures_util::future::BoxFuture;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};

use super::{PATIENCE, StoreError, failed};

/// Most writes that wait in line; more callers than that wait for a place, within their patience.
const QUEUE: usize = 1024;
/// Most writes in one transaction.
const BATCH: usize = 256;

/// Tells one caller how it went, once the commit is through or has failed.
type Settle = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// One caller's work: runs, keeps its result, and returns whether it went well and how to tell.
type Job = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Ran> + Send>;

struct Ran {
    outcome: Result<(), StoreError>,
    settle: Settle,
}

enum Message {
    Write(Job),
    Close(oneshot::Sender<()>),
}

/// A handle to the writing task.
pub(super) struct Writer {
    messages: mpsc::Sender<Message>,
}

impl Writer {
    pub(super) fn start(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        let (messages, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(run(inbox, connection, options));
        Self { messages }
    }

    /// Runs `work` in a transaction of its own, as far as it can tell. `Ok` is committed and on the
    /// disk; on `Err` nothing is changed.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            Box::pin(async move {
                let result = work(connection).await;
                let outcome = result.as_ref().map(|_| ()).map_err(StoreError::clone);
                let settle: Settle = Box::new(move |committed| {
                    // The caller may have hung up; the write stands all the same.
                    let _ = reply.send(result.and_then(|value| committed.map(|()| value)));
                });
                Ran { outcome, settle }
            })
        });
        let asked = async {
            self.messages.send(Message::Write(job)).await.ok()?;
            answer.await.ok()
        };
        let begun = Instant::now();
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        metrics::histogram!("dockctl_store_seconds", "kind" => "write").record(begun.elapsed());
        match asked {
            Ok(Some(result)) => result,
            Ok(None) => Err(StoreError::unavailable("the database is closed or could not write")),
            Err(_) => Err(StoreError::unavailable("the database did not answer in time")),
        }
    }

    /// How many writes wait in line.
    pub(super) fn waiting(&self) -> usize {
        QUEUE.saturating_sub(self.messages.capacity())
    }

    /// Waits until all that is in line is written and the file is closed.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.messages.send(Message::Close(done)).await.is_ok() {
            let _ = tokio::time::timeout(PATIENCE, closed).await;
        }
    }
}

async fn run(
    mut inbox: mpsc::Receiver<Message>,
    connection: SqliteConnection,
    options: SqliteConnectOptions,
) {
    let mut connection = Some(connection);
    let mut messages = Vec::with_capacity(BATCH);
    let mut closers = Vec::new();
    while inbox.recv_many(&mut messages, BATCH).await > 0 {
        let mut jobs = Vec::with_capacity(messages.len());
        for message in messages.drain(..) {
            match message {
                Message::Write(job) => jobs.push(job),
                Message::Close(done) => {
                    inbox.close();
                    closers.push(done);
                }
            }
        }
        if jobs.is_empty() {
            continue;
        }
        let mut ran = Vec::with_capacity(jobs.len());
        let committed = match ready(&mut connection, &options).await {
            Ok(connection) => batch(connection, jobs, &mut ran).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &committed {
            tracing::error!(error = ?error, writes = ran.len(), "the database could not write");
            connection = None;
        }
        // Jobs that were never run drop their reply, which their callers take for a failure too.
        for settle in ran {
            settle(committed.clone());
        }
    }
    if let Some(connection) = connection
        && let Err(error) = connection.close().await
    {
        tracing::warn!(%error, "the database did not close well");
    }
    for done in closers {
        let _ = done.send(());
    }
}

async fn ready<'c>(
    slot: &'c mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
) -> Result<&'c mut SqliteConnection, StoreError> {
    let connection = match slot.take() {
        Some(connection) => connection,
        None => SqliteConnection::connect_with(options).await.map_err(failed)?,
    };
    Ok(slot.insert(connection))
}

/// Runs all jobs and commits. An error means that nothing of the batch is kept.
async fn batch(
    connection: &mut SqliteConnection,
    jobs: Vec<Job>,
    ran: &mut Vec<Settle>,
) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    for job in jobs {
        let mut savepoint = transaction.begin().await.map_err(failed)?;
        let Ran { outcome, settle } = job(&mut savepoint).await;
        ran.push(settle);
        match outcome {
            Ok(()) => savepoint.commit().await.map_err(failed)?,
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            Err(_) => savepoint.rollback().await.map_err(failed)?,
        }
    }
    transaction.commit().await.map_err(failed)
}
