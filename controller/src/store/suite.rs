//! How every store must behave. A backend's tests call [`run_all`] with a way to make an empty store;
//! nothing here knows which database is behind it.

use std::{collections::HashMap, sync::Arc};

use super::*;

mod people;

/// Unix milliseconds at which the suite begins.
const NOW: i64 = 1_763_800_000_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// Runs every behaviour, each on a store of its own.
pub(super) async fn run_all<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Handle>,
{
    users_are_unique_and_can_be_deleted(&*make().await).await;
    refresh_tokens_rotate(&*make().await).await;
    a_refresh_token_used_twice_kills_its_family(&*make().await).await;
    refresh_tokens_expire_and_are_forgotten(&*make().await).await;
    logout_ends_only_that_login(&*make().await).await;
    people::run_all(&make).await;
    join_tokens_are_listed_and_deleted(&*make().await).await;
    enrolment_takes_a_use_and_merges_labels(&*make().await).await;
    enrolment_is_refused_and_stores_nothing(&*make().await).await;
    a_repeated_enrolment_returns_the_same_agent(&*make().await).await;
    a_single_use_token_is_used_once(make().await).await;
    generations_tell_a_clone(&*make().await).await;
    lost_answers_to_renewals_are_no_clone(&*make().await).await;
    standings_keep_an_agent_out(&*make().await).await;
    sessions_count_up(&*make().await).await;
    each_write_makes_a_newer_revision(&*make().await).await;
    agents_are_listed_found_labelled_and_deleted(&*make().await).await;
    last_seen_only_moves_forward(&*make().await).await;
    writes_at_once_are_all_kept(make().await).await;
    the_audit_log_is_one_chain(make().await).await;
}

/// What SHA-256 of something looks like.
pub(super) fn hash(of: &str) -> Hash {
    dockctl_api::sha256_hex(of.as_bytes())
}

pub(super) fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub(super) fn user(name: &str) -> UserRecord {
    UserRecord {
        id: format!("id-{name}"),
        name: name.to_owned(),
        password_hash: "$argon2id$".to_owned(),
        oidc_subject: None,
        role: Role::Viewer,
        created_at: NOW,
        login_version: 1,
        grants: Vec::new(),
    }
}

fn refresh(secret: &str, family: &str, user: &str) -> RefreshTokenRecord {
    RefreshTokenRecord {
        hash: hash(secret),
        family: family.to_owned(),
        user_id: format!("id-{user}"),
        expires_at: NOW + 30 * DAY,
        ends_at: None,
    }
}

pub(super) fn join_token(secret: &str, max_uses: u32) -> JoinTokenRecord {
    JoinTokenRecord {
        id: format!("token-{secret}"),
        secret_hash: hash(secret),
        description: "for a test".to_owned(),
        max_uses,
        uses: 0,
        created_at: NOW,
        expires_at: NOW + 30 * MINUTE,
        labels: map(&[("env", "prod")]),
        created_by: "admin".to_owned(),
    }
}

pub(super) fn enrollment(secret: &str, name: &str) -> Enrollment {
    Enrollment {
        secret_hash: hash(secret),
        key_fingerprint: hash(&format!("key of {name}")),
        name: name.to_owned(),
        labels: map(&[("env", "dev"), ("zone", "a")]),
        address: "192.0.2.7:40000".to_owned(),
        new_id: format!("id-{name}"),
        certificate_expires_at: NOW + DAY,
    }
}

fn connection(generation: u64) -> Connection {
    Connection {
        generation,
        version: "0.1.0".to_owned(),
        platform: "linux/amd64".to_owned(),
        address: "192.0.2.7:40001".to_owned(),
    }
}

async fn enrolled(store: &dyn Store, name: &str) -> AgentRecord {
    let secret = format!("secret for {name}");
    store.create_join_token(join_token(&secret, 1)).await.unwrap();
    store.enroll_agent(enrollment(&secret, name), NOW).await.unwrap()
}

async fn users_are_unique_and_can_be_deleted(store: &dyn Store) {
    assert!(!store.has_users().await.unwrap());
    store.create_user(user("ada")).await.unwrap();
    assert!(store.has_users().await.unwrap());
    assert_eq!(store.user_by_name("ada").await.unwrap(), user("ada"));
    assert_eq!(store.user_by_id("id-ada").await.unwrap(), user("ada"));

    let twin = UserRecord { id: "another".to_owned(), ..user("ada") };
    let refused = store.create_user(twin).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { what: "name" }), "{refused:?}");
    let same_id = UserRecord { name: "eve".to_owned(), ..user("ada") };
    let refused = store.create_user(same_id).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { what: "id" }), "{refused:?}");

    store.create_refresh_token(refresh("r1", "f", "ada"), 1, NOW).await.unwrap();
    store.delete_user("id-ada").await.unwrap();
    assert!(matches!(store.user_by_id("id-ada").await, Err(StoreError::NotFound)));
    assert!(matches!(store.user_by_name("ada").await, Err(StoreError::NotFound)));
    assert!(matches!(store.delete_user("id-ada").await, Err(StoreError::NotFound)));
    let rotation =
        store.rotate_refresh_token(&hash("r1"), &hash("r2"), NOW + DAY, NOW).await.unwrap();
    assert_eq!(rotation, Rotation::Unknown, "a deleted user's logins are gone");
    let orphan = store.create_refresh_token(refresh("r3", "f", "ada"), 1, NOW).await.unwrap_err();
    assert!(matches!(orphan, StoreError::NotFound), "{orphan:?}");
}

async fn refresh_tokens_rotate(store: &dyn Store) {
    store.create_user(user("ada")).await.unwrap();
    store.create_refresh_token(refresh("r0", "f", "ada"), 1, NOW).await.unwrap();
    for i in 0..5 {
        let (old, new) = (hash(&format!("r{i}")), hash(&format!("r{}", i + 1)));
        let rotation = store.rotate_refresh_token(&old, &new, NOW + DAY, NOW).await.unwrap();
        let expected = Rotation::Rotated {
            user_id: "id-ada".to_owned(),
            login_version: 1,
            family: "f".to_owned(),
            expires_at: NOW + DAY,
        };
        assert_eq!(rotation, expected);
    }
    // A login that has an end has it however often it is used.
    let short = RefreshTokenRecord { ends_at: Some(NOW + 5), ..refresh("s0", "s", "ada") };
    store.create_refresh_token(short, 1, NOW).await.unwrap();
    let rotate = async |old: &str, new: &str, now| {
        store.rotate_refresh_token(&hash(old), &hash(new), now + DAY, now).await.unwrap()
    };
    for (old, new) in [("s0", "s1"), ("s1", "s2")] {
        let rotated = rotate(old, new, NOW + 4).await;
        assert!(matches!(rotated, Rotation::Rotated { expires_at, .. } if expires_at == NOW + 5));
    }
    assert_eq!(rotate("s2", "s3", NOW + 5).await, Rotation::Expired);
    let rotation = store.rotate_refresh_token(&hash("x"), &hash("y"), NOW + DAY, NOW).await;
    assert_eq!(rotation.unwrap(), Rotation::Unknown);
}

async fn a_refresh_token_used_twice_kills_its_family(store: &dyn Store) {
    store.create_user(user("ada")).await.unwrap();
    store.create_refresh_token(refresh("r0", "f", "ada"), 1, NOW).await.unwrap();
    store.create_refresh_token(refresh("other", "g", "ada"), 1, NOW).await.unwrap();
    store.rotate_refresh_token(&hash("r0"), &hash("r1"), NOW + DAY, NOW).await.unwrap();

    let dead = Rotation::Reused { family: "f".to_owned() };
    let replay = store.rotate_refresh_token(&hash("r0"), &hash("thief"), NOW + DAY, NOW).await;
    assert_eq!(replay.unwrap(), dead);
    let newest = store.rotate_refresh_token(&hash("r1"), &hash("r2"), NOW + DAY, NOW).await;
    assert_eq!(newest.unwrap(), dead, "the newest token is dead too");
    let thief = store.rotate_refresh_token(&hash("thief"), &hash("t2"), NOW + DAY, NOW).await;
    assert_eq!(thief.unwrap(), Rotation::Unknown, "the replay stored nothing");
    let other = store.rotate_refresh_token(&hash("other"), &hash("o2"), NOW + DAY, NOW).await;
    assert!(matches!(other.unwrap(), Rotation::Rotated { .. }), "another login lives on");
}

async fn refresh_tokens_expire_and_are_forgotten(store: &dyn Store) {
    store.create_user(user("ada")).await.unwrap();
    store.create_refresh_token(refresh("r0", "f", "ada"), 1, NOW).await.unwrap();
    let later = NOW + 30 * DAY;
    let rotation = store.rotate_refresh_token(&hash("r0"), &hash("r1"), later + DAY, later).await;
    assert_eq!(rotation.unwrap(), Rotation::Expired);
    let rotation = store.rotate_refresh_token(&hash("r0"), &hash("r1"), later, later - 1).await;
    assert!(matches!(rotation.unwrap(), Rotation::Rotated { .. }), "the last millisecond counts");

    let much_later = later + 2 * DAY;
    let fresh = RefreshTokenRecord { expires_at: much_later + DAY, ..refresh("fresh", "g", "ada") };
    store.create_refresh_token(fresh, 1, much_later).await.unwrap();
    let rotation =
        store.rotate_refresh_token(&hash("r0"), &hash("x"), much_later, much_later).await;
    assert_eq!(rotation.unwrap(), Rotation::Unknown);
}

async fn logout_ends_only_that_login(store: &dyn Store) {
    store.create_user(user("ada")).await.unwrap();
    store.create_user(user("bob")).await.unwrap();
    store.create_refresh_token(refresh("r0", "f", "ada"), 1, NOW).await.unwrap();
    store.create_refresh_token(refresh("other", "g", "ada"), 1, NOW).await.unwrap();
    store.rotate_refresh_token(&hash("r0"), &hash("r1"), NOW + DAY, NOW).await.unwrap();

    let revoke =
        async |secret: &str, user| store.revoke_refresh_family(&hash(secret), user).await.unwrap();
    assert_eq!(revoke("other", "id-bob").await, None);
    assert_eq!(revoke("nonsense", "id-ada").await, None);
    assert!(revoke("r0", "id-ada").await.is_some());
    let ended = store.rotate_refresh_token(&hash("r1"), &hash("r2"), NOW + DAY, NOW).await;
    assert_eq!(ended.unwrap(), Rotation::Unknown);
    let other = store.rotate_refresh_token(&hash("other"), &hash("o2"), NOW + DAY, NOW).await;
    assert!(matches!(other.unwrap(), Rotation::Rotated { .. }), "not bob's to end");
}

async fn join_tokens_are_listed_and_deleted(store: &dyn Store) {
    for (i, secret) in ["a", "b", "c"].into_iter().enumerate() {
        let created_at = NOW + i64::try_from(i).unwrap() / 2; // b and c in the same instant or not
        let token = JoinTokenRecord { created_at, ..join_token(secret, 3) };
        store.create_join_token(token).await.unwrap();
    }
    let ids = |tokens: Vec<JoinTokenRecord>| tokens.into_iter().map(|t| t.id).collect::<Vec<_>>();
    let listed = store.list_join_tokens(NOW).await.unwrap();
    assert_eq!(listed[2], join_token("a", 3));
    assert_eq!(ids(listed), ["token-c", "token-b", "token-a"]);

    let twin = JoinTokenRecord { id: "x".to_owned(), ..join_token("a", 1) };
    assert!(matches!(store.create_join_token(twin).await, Err(StoreError::Conflict { .. })));

    store.delete_join_token("token-b").await.unwrap();
    assert!(matches!(store.delete_join_token("token-b").await, Err(StoreError::NotFound)));
    let day_after = NOW + 30 * MINUTE + DAY;
    assert_eq!(ids(store.list_join_tokens(day_after).await.unwrap()), ["token-c", "token-a"]);
    assert!(store.list_join_tokens(day_after + 1).await.unwrap().is_empty());
    let fresh = JoinTokenRecord {
        created_at: day_after + 1,
        expires_at: day_after + DAY,
        ..join_token("fresh", 1)
    };
    store.create_join_token(fresh).await.unwrap();
    assert_eq!(ids(store.list_join_tokens(NOW).await.unwrap()), ["token-fresh"]);
}

async fn enrolment_takes_a_use_and_merges_labels(store: &dyn Store) {
    store.create_join_token(join_token("s", 2)).await.unwrap();
    let agent = store.enroll_agent(enrollment("s", "web-1"), NOW).await.unwrap();
    let expected = AgentRecord {
        id: "id-web-1".to_owned(),
        name: "web-1".to_owned(),
        labels: map(&[("env", "prod"), ("zone", "a")]),
        standing: Standing::Active,
        join_token_id: "token-s".to_owned(),
        key_fingerprint: hash("key of web-1"),
        generation_issued: FIRST_GENERATION,
        generation_confirmed: 0,
        certificate_expires_at: NOW + DAY,
        enrolled_at: NOW,
        last_seen_at: None,
        epoch: 0,
        version: String::new(),
        platform: String::new(),
        address: "192.0.2.7:40000".to_owned(),
        revision: 1,
    };
    assert_eq!(agent, expected);
    assert_eq!(store.agent("web-1").await.unwrap(), expected);
    assert_eq!(store.list_join_tokens(NOW).await.unwrap()[0].uses, 1);
    store.enroll_agent(enrollment("s", "web-2"), NOW).await.unwrap();
    let third = store.enroll_agent(enrollment("s", "web-3"), NOW).await.unwrap_err();
    assert!(matches!(third, EnrollRefused::TokenUsedUp), "{third:?}");
}

async fn enrolment_is_refused_and_stores_nothing(store: &dyn Store) {
    store.create_join_token(join_token("s", 5)).await.unwrap();
    store.enroll_agent(enrollment("s", "web-1"), NOW).await.unwrap();
    store.create_join_token(join_token("t", 5)).await.unwrap();

    let unknown = store.enroll_agent(enrollment("guess", "x"), NOW).await.unwrap_err();
    assert!(matches!(unknown, EnrollRefused::TokenInvalid), "{unknown:?}");
    let late = store.enroll_agent(enrollment("s", "x"), NOW + 30 * MINUTE).await.unwrap_err();
    assert!(matches!(late, EnrollRefused::TokenExpired), "{late:?}");
    let name = Enrollment {
        key_fingerprint: hash("another key"),
        new_id: "another".to_owned(),
        ..enrollment("s", "web-1")
    };
    let taken = store.enroll_agent(name, NOW).await.unwrap_err();
    assert!(matches!(taken, EnrollRefused::NameTaken), "{taken:?}");
    let key = Enrollment { key_fingerprint: hash("key of web-1"), ..enrollment("t", "web-2") };
    let taken = store.enroll_agent(key.clone(), NOW).await.unwrap_err();
    assert!(matches!(taken, EnrollRefused::KeyTaken), "{taken:?}");
    let guess = Enrollment { secret_hash: hash("guess"), ..key };
    let refused = store.enroll_agent(guess, NOW).await.unwrap_err();
    assert!(matches!(refused, EnrollRefused::TokenInvalid), "a guess learns nothing: {refused:?}");
    store.delete_join_token("token-t").await.unwrap();
    let deleted = store.enroll_agent(enrollment("t", "x"), NOW).await.unwrap_err();
    assert!(matches!(deleted, EnrollRefused::TokenInvalid), "{deleted:?}");

    assert_eq!(store.list_agents().await.unwrap().len(), 1);
    assert_eq!(store.list_join_tokens(NOW).await.unwrap()[0].uses, 1);
}

async fn a_repeated_enrolment_returns_the_same_agent(store: &dyn Store) {
    let first = enrolled(store, "web-1").await;
    let again =
        Enrollment { new_id: "another".to_owned(), ..enrollment("secret for web-1", "web-1") };
    let repeated = store.enroll_agent(again.clone(), NOW).await.unwrap();
    let same = AgentRecord { revision: repeated.revision, ..first.clone() };
    assert_eq!(repeated, same, "although the token is used up");
    let late = NOW + 3 * DAY;
    let again = Enrollment { certificate_expires_at: late + DAY, ..again };
    let repeated = store.enroll_agent(again.clone(), late).await.unwrap();
    assert_eq!(repeated.id, first.id, "although the token has expired");
    assert_eq!(repeated.certificate_expires_at, late + DAY);
    store.delete_join_token("token-secret for web-1").await.unwrap();
    let repeated = store.enroll_agent(again.clone(), late).await.unwrap();
    assert_eq!(repeated.id, first.id, "although the token is gone");
    assert_eq!(repeated.generation_issued, FIRST_GENERATION);

    store.lock_agent(&first.id, "cloned").await.unwrap();
    let refused = store.enroll_agent(again.clone(), late).await.unwrap_err();
    assert!(matches!(&refused, EnrollRefused::Locked { reason } if reason == "cloned"));
    store.revoke_agent(&first.id, "sold").await.unwrap();
    let refused = store.enroll_agent(again, late).await.unwrap_err();
    assert!(matches!(&refused, EnrollRefused::Revoked { reason } if reason == "sold"));
}

async fn a_single_use_token_is_used_once(store: Handle) {
    store.create_join_token(join_token("s", 1)).await.unwrap();
    let mut tries = tokio::task::JoinSet::new();
    for i in 0..100 {
        let store = Arc::clone(&store);
        tries.spawn(
            async move { store.enroll_agent(enrollment("s", &format!("web-{i}")), NOW).await },
        );
    }
    let results = tries.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    let used_up = |r: &&Result<_, _>| matches!(r, Err(EnrollRefused::TokenUsedUp));
    assert_eq!(results.iter().filter(used_up).count(), 99);
    assert_eq!(store.list_agents().await.unwrap().len(), 1);
}

async fn generations_tell_a_clone(store: &dyn Store) {
    let id = enrolled(store, "web-1").await.id;
    store.connect_agent(&id, connection(1), NOW).await.unwrap();
    // The disk is copied here. One machine renews and uses its new certificate ...
    let renewed = store.renew_agent(&id, 1, &hash("k2"), NOW + 2 * DAY, NOW).await.unwrap();
    assert_eq!((renewed.generation_issued, renewed.generation_confirmed), (2, 1));
    assert_eq!(renewed.key_fingerprint, hash("k2"));
    assert_eq!(renewed.certificate_expires_at, NOW + 2 * DAY);
    let old = store.connect_agent(&id, connection(1), NOW).await.unwrap();
    assert_eq!(old.generation_confirmed, 1, "the old one is good until the new one is used");
    let new = store.connect_agent(&id, connection(2), NOW).await.unwrap();
    assert_eq!(new.generation_confirmed, 2);
    // ... and then the other comes with the old one.
    let clone = store.connect_agent(&id, connection(1), NOW).await.unwrap_err();
    assert!(matches!(clone, AgentRefused::Locked { newly: true, .. }), "{clone:?}");
    let both = store.connect_agent(&id, connection(2), NOW).await.unwrap_err();
    assert!(matches!(both, AgentRefused::Locked { newly: false, .. }), "{both:?}");
    assert!(matches!(store.agent(&id).await.unwrap().standing, Standing::Locked { .. }));

    // The same where the clone renews.
    let id = enrolled(store, "web-2").await.id;
    for generation in 1..=3 {
        store.connect_agent(&id, connection(generation), NOW).await.unwrap();
        store.renew_agent(&id, generation, &hash("k"), NOW + DAY, NOW).await.unwrap();
    }
    let clone = store.renew_agent(&id, 2, &hash("clone"), NOW + DAY, NOW).await.unwrap_err();
    assert!(matches!(clone, AgentRefused::Locked { newly: true, .. }), "{clone:?}");
    assert_eq!(store.agent(&id).await.unwrap().key_fingerprint, hash("k"));
}

async fn lost_answers_to_renewals_are_no_clone(store: &dyn Store) {
    let agent = enrolled(store, "web-1").await;
    let id = agent.id;
    // The answers to three renewals are lost; the third certificate arrives.
    for issued in 2..=4 {
        let renewed = store.renew_agent(&id, 1, &hash("k2"), NOW + DAY, NOW).await.unwrap();
        assert_eq!(renewed.generation_issued, issued);
    }
    let between = store.connect_agent(&id, connection(3), NOW).await.unwrap();
    assert_eq!((between.generation_confirmed, between.generation_issued), (3, 4));
    // The database was put back to an older state, before the agent's newest certificate.
    let ahead = store.connect_agent(&id, connection(9), NOW).await.unwrap();
    assert_eq!((ahead.generation_confirmed, ahead.generation_issued), (9, 9));

    let other = enrolled(store, "web-2").await;
    let taken = store.renew_agent(&other.id, 1, &hash("k2"), NOW + DAY, NOW).await.unwrap_err();
    assert!(matches!(taken, AgentRefused::KeyTaken), "{taken:?}");
    let stranger = store.renew_agent("nobody", 1, &hash("k3"), NOW + DAY, NOW).await.unwrap_err();
    assert!(matches!(stranger, AgentRefused::Unknown), "{stranger:?}");
}

async fn standings_keep_an_agent_out(store: &dyn Store) {
    let id = enrolled(store, "web-1").await.id;
    let locked = store.lock_agent(&id, "cloned").await.unwrap();
    assert_eq!(locked.standing, Standing::Locked { reason: "cloned".to_owned() });
    let refused = store.connect_agent(&id, connection(1), NOW).await.unwrap_err();
    assert!(matches!(refused, AgentRefused::Locked { newly: false, .. }), "{refused:?}");
    let revoked = store.revoke_agent(&id, "sold").await.unwrap();
    assert_eq!(revoked.standing, Standing::Revoked { reason: "sold".to_owned() });
    let still = store.lock_agent(&id, "cloned").await.unwrap();
    assert_eq!(still.standing, Standing::Revoked { reason: "sold".to_owned() });
    let refused = store.connect_agent(&id, connection(1), NOW).await.unwrap_err();
    assert!(matches!(&refused, AgentRefused::Revoked { reason } if reason == "sold"));
    let refused = store.renew_agent(&id, 1, &hash("k2"), NOW, NOW).await.unwrap_err();
    assert!(matches!(&refused, AgentRefused::Revoked { .. }), "{refused:?}");
    let unchanged = store.agent(&id).await.unwrap();
    assert_eq!((unchanged.epoch, unchanged.generation_issued), (0, 1));

    store.delete_agent(&id).await.unwrap();
    let refused = store.connect_agent(&id, connection(1), NOW).await.unwrap_err();
    assert!(matches!(refused, AgentRefused::Unknown), "{refused:?}");
    assert!(matches!(store.revoke_agent(&id, "").await, Err(StoreError::NotFound)));
    assert!(matches!(store.lock_agent(&id, "").await, Err(StoreError::NotFound)));
}

async fn sessions_count_up(store: &dyn Store) {
    let id = enrolled(store, "web-1").await.id;
    for epoch in 1..=3 {
        let at = NOW + i64::try_from(epoch).unwrap();
        let agent = store.connect_agent(&id, connection(1), at).await.unwrap();
        assert_eq!((agent.epoch, agent.last_seen_at), (epoch, Some(at)));
        assert_eq!((agent.version.as_str(), agent.platform.as_str()), ("0.1.0", "linux/amd64"));
        assert_eq!(agent.address, "192.0.2.7:40001");
    }
}

async fn agents_are_listed_found_labelled_and_deleted(store: &dyn Store) {
    for name in ["web-2", "db-1", "web-1"] {
        enrolled(store, name).await;
    }
    let names: Vec<_> = store.list_agents().await.unwrap().into_iter().map(|a| a.name).collect();
    assert_eq!(names, ["db-1", "web-1", "web-2"]);

    // A host that calls itself by another's id does not hide it.
    store.create_join_token(join_token("s", 1)).await.unwrap();
    let impostor = Enrollment {
        name: "id-db-1".to_owned(),
        new_id: "impostor".to_owned(),
        ..enrollment("s", "x")
    };
    store.enroll_agent(impostor, NOW).await.unwrap();
    assert_eq!(store.agent("id-db-1").await.unwrap().name, "db-1");
    assert_eq!(store.agent("db-1").await.unwrap().id, "id-db-1");
    assert!(matches!(store.agent("db-2").await, Err(StoreError::NotFound)));

    let set = map(&[("env", "test"), ("gone", "1")]);
    let remove = ["gone".to_owned(), "zone".to_owned(), "never there".to_owned()];
    let agent = store.update_agent_labels("id-db-1", &set, &remove).await.unwrap();
    assert_eq!(agent.labels, map(&[("env", "test")]));
    assert_eq!(store.agent("id-db-1").await.unwrap(), agent);
    let nobody = store.update_agent_labels("nobody", &set, &remove).await;
    assert!(matches!(nobody, Err(StoreError::NotFound)));

    assert_eq!(store.delete_agent("id-db-1").await.unwrap(), agent);
    assert!(matches!(store.delete_agent("id-db-1").await, Err(StoreError::NotFound)));
    store.create_join_token(join_token("new", 1)).await.unwrap();
    let successor = Enrollment { new_id: "new-id".to_owned(), ..enrollment("new", "db-1") };
    store.enroll_agent(successor, NOW).await.unwrap();
}

async fn each_write_makes_a_newer_revision(store: &dyn Store) {
    let first = enrolled(store, "web-1").await;
    let id = first.id.as_str();
    let (none, labels) = (map(&[]), map(&[("env", "test")]));
    let again = enrollment("secret for web-1", "web-1");
    let records = [
        first.clone(),
        store.enroll_agent(again, NOW).await.unwrap(),
        store.connect_agent(id, connection(1), NOW).await.unwrap(),
        store.renew_agent(id, 1, &hash("key 2"), NOW + DAY, NOW).await.unwrap(),
        store.connect_agent(id, connection(2), NOW).await.unwrap(),
        store.update_agent_labels(id, &labels, &[]).await.unwrap(),
        store.update_agent_labels(id, &none, &["env".to_owned()]).await.unwrap(),
        store.lock_agent(id, "two machines").await.unwrap(),
        store.revoke_agent(id, "stolen").await.unwrap(),
    ];
    assert!(records.is_sorted_by(|a, b| a.revision < b.revision), "{records:?}");
    assert_eq!(store.agent(id).await.unwrap(), records[8]);
}

async fn last_seen_only_moves_forward(store: &dyn Store) {
    let one = enrolled(store, "web-1").await.id;
    let two = enrolled(store, "web-2").await.id;
    let seen = |at| vec![(one.clone(), at), ("nobody".to_owned(), at)];
    store.touch_agents(seen(NOW + 5)).await.unwrap();
    store.touch_agents(seen(NOW + 3)).await.unwrap();
    store.touch_agents(Vec::new()).await.unwrap();
    assert_eq!(store.agent(&one).await.unwrap().last_seen_at, Some(NOW + 5));
    assert_eq!(store.agent(&two).await.unwrap().last_seen_at, None);
}

async fn writes_at_once_are_all_kept(store: Handle) {
    let mut writes = tokio::task::JoinSet::new();
    for i in 0..300 {
        let store = Arc::clone(&store);
        // Every third one fails, and must not take its neighbours with it.
        let name = if i % 3 == 0 { "same".to_owned() } else { format!("user-{i}") };
        writes.spawn(async move { store.create_user(user(&name)).await });
    }
    let results = writes.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 201);
    for i in (0..300).filter(|i| i % 3 != 0) {
        store.user_by_name(&format!("user-{i}")).await.unwrap();
    }
}

async fn the_audit_log_is_one_chain(store: Handle) {
    let deed = |n: usize| AuditRecord {
        principal: if n.is_multiple_of(2) { "ada" } else { "bob" }.to_owned(),
        agent: format!("web-{}", n % 3),
        ..Default::default()
    };
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..60 {
        let store = Arc::clone(&store);
        writes.spawn(async move { store.append_audit(deed(n)).await.unwrap() });
    }
    let mut sequences = writes.join_all().await;
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=60).collect::<Vec<_>>());

    let entries = store.audit_after(0, 1_000).await.unwrap();
    let mut previous = GENESIS;
    for entry in &entries {
        assert!(entry.follows(previous), "{entry:?}");
        previous = &entry.hash;
    }
    assert_eq!(store.audit_after(58, 1).await.unwrap(), entries[58..59]);
    assert!(store.audit_after(60, 1).await.unwrap().is_empty());

    let filter = |before, principal: &str, agent: &str| AuditFilter {
        before,
        principal: principal.into(),
        agent: agent.into(),
    };
    let newest = store.audit_before(filter(u64::MAX, "", ""), 2).await.unwrap();
    assert_eq!(newest, [entries[59].clone(), entries[58].clone()]);
    let some = store.audit_before(filter(50, "ada", "web-1"), 1_000).await.unwrap();
    let all = entries[..49].iter().rev();
    let expected =
        all.filter(|e| e.record.principal == "ada" && e.record.agent == "web-1").cloned();
    assert_eq!(some, expected.collect::<Vec<_>>());
}
