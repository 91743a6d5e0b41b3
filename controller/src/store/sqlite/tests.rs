//! SQLite under the store's suite, and what only a file can suffer.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use super::{
    super::{Handle, suite},
    *,
};

async fn open(directory: &Path) -> Sqlite {
    Sqlite::open(&directory.join("dockctl.db")).await.unwrap()
}

#[tokio::test]
async fn behaves_like_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let number = std::sync::atomic::AtomicU32::new(0);
    suite::run_all(|| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = directory.path().join(format!("{number}.db"));
        async move { Arc::new(Sqlite::open(&path).await.unwrap()) as Handle }
    })
    .await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for start in 1..=3 {
        // Not closed: the process is gone from one moment to the next.
        let store = open(directory.path()).await;
        if start == 1 {
            store.create_join_token(suite::join_token("s", 1)).await.unwrap();
            store.enroll_agent(suite::enrollment("s", "web-1"), 5).await.unwrap();
        }
        let connection = Connection {
            generation: 1,
            version: String::new(),
            platform: String::new(),
            address: String::new(),
        };
        let agent = store.connect_agent("id-web-1", connection, 10).await.unwrap();
        assert_eq!(agent.epoch, start, "epochs grow over restarts");
    }
    let store = open(directory.path()).await;
    assert_eq!(store.list_join_tokens(0).await.unwrap()[0].uses, 1);
}

#[tokio::test]
async fn only_its_owner_reads_the_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("dockctl.db"), "").unwrap();
    let store = open(directory.path()).await;
    store.create_user(suite::user("ada")).await.unwrap();
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn the_file_is_set_up_to_survive_a_power_cut() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let settings = store
        .writer
        .write(|c| {
            Box::pin(async move {
                let mode: String =
                    sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *c).await.unwrap();
                let synchronous: i64 =
                    sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *c).await.unwrap();
                let keys: i64 =
                    sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&mut *c).await.unwrap();
                Ok((mode, synchronous, keys))
            })
        })
        .await
        .unwrap();
    assert_eq!(settings, ("wal".to_owned(), 2, 1));
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_passes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    store.create_user(suite::user("before")).await.unwrap();
    let pages = |count: &'static str| {
        store.writer.write(move |c| {
            Box::pin(
                async move { sqlx::query(count).fetch_all(c).await.map(|_| ()).map_err(failed) },
            )
        })
    };
    pages("PRAGMA max_page_count = 1").await.unwrap();
    let big = UserRecord { password_hash: "x".repeat(1 << 20), ..suite::user("big") };
    let refused = store.create_user(big.clone()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    assert!(matches!(store.user_by_name("big").await, Err(StoreError::NotFound)));
    // The connection was made anew, so the limit is gone, as when a disk is freed.
    store.create_user(big).await.unwrap();
    store.user_by_name("before").await.unwrap();
}

#[tokio::test]
async fn a_caller_that_hangs_up_stops_no_write_and_breaks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    for i in 0..200 {
        let name = format!("user-{i}");
        let mut write = store.create_user(suite::user(&name));
        let mut read = store.user_by_name(&name);
        // Polled once and dropped, which is what a hung-up caller's future suffers.
        assert!(futures_util::poll!(&mut write).is_pending());
        assert!(futures_util::poll!(&mut read).is_pending());
        // One poll may do only so much before tokio wants a turn.
        tokio::task::yield_now().await;
    }
    // Writes are done in the order in which they came.
    store.create_user(suite::user("last")).await.unwrap();
    for i in 0..200 {
        store.user_by_name(&format!("user-{i}")).await.unwrap();
    }
}

#[tokio::test]
async fn close_ends_what_is_in_line_first_and_then_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(directory.path()).await);
    let mut writes = tokio::task::JoinSet::new();
    for i in 0..50 {
        let store = Arc::clone(&store);
        writes.spawn(async move { store.create_user(suite::user(&format!("user-{i}"))).await });
    }
    for result in writes.join_all().await {
        result.unwrap();
    }
    store.close().await;
    let refused = store.create_user(suite::user("late")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    assert!(matches!(store.has_users().await, Err(StoreError::Unavailable(_))));
    // A clean close leaves one file.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(open(directory.path()).await.has_users().await.unwrap());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dockctl.db");
    fs::write(&path, "not a database, but somebody's file").unwrap();
    assert!(matches!(Sqlite::open(&path).await, Err(StoreError::Unavailable(_))));
    assert_eq!(fs::read(&path).unwrap(), b"not a database, but somebody's file");
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_the_audit_log() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    store.append_audit(AuditRecord::default()).await.unwrap();
    let mut raw = raw(directory.path()).await;
    let insert = "INSERT OR REPLACE INTO audit SELECT 1, at, 'eve', address, method, agent, target, outcome, \
                  code, reason, begun, hash FROM audit";
    for change in ["UPDATE audit SET principal = 'eve'", "DELETE FROM audit", insert] {
        let refused = sqlx::query(change).execute(&mut raw).await.unwrap_err();
        assert!(refused.to_string().contains("only added to"), "{refused}");
    }
}

async fn raw(directory: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(directory.join("dockctl.db"));
    SqliteConnection::connect_with(&options).await.unwrap()
}
