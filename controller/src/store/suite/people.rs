//! What users, grants and API tokens do in every store.

use super::*;

pub(super) async fn run_all<F, Fut>(make: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Handle>,
{
    roles_change_but_an_admin_stays(&*make().await).await;
    grants_come_and_go(&*make().await).await;
    people_of_a_provider_are_found(&*make().await).await;
    logins_end_with_a_password(&*make().await).await;
    api_tokens_are_found_listed_and_deleted(&*make().await).await;
    api_tokens_expire_and_are_forgotten(&*make().await).await;
}

fn admin(name: &str) -> UserRecord {
    UserRecord { role: Role::Admin, ..user(name) }
}

fn grant(id: &str, role: Role, selector: &str) -> GrantRecord {
    GrantRecord {
        id: id.to_owned(),
        role,
        selector: selector.to_owned(),
        created_at: NOW,
        created_by: "root".to_owned(),
    }
}

fn api_token(owner: &str, name: &str) -> ApiTokenRecord {
    ApiTokenRecord {
        id: format!("{owner}-{name}"),
        hash: hash(&format!("{owner}/{name}")),
        user_id: format!("id-{owner}"),
        username: owner.to_owned(),
        name: name.to_owned(),
        role: Role::Operator,
        selector: "env=dev".to_owned(),
        created_at: NOW,
        expires_at: NOW + DAY,
        last_used_at: None,
    }
}

async fn people_of_a_provider_are_found(store: &dyn Store) {
    let of = |name: &str, subject: &str| UserRecord {
        oidc_subject: Some(subject.to_owned()),
        ..user(name)
    };
    let ada = of("ada", "https://id.example 7");
    store.create_user(ada.clone()).await.unwrap();
    store.create_user(user("eve")).await.unwrap();
    store.create_user(user("bob")).await.unwrap();
    let twin = store.create_user(of("ada2", "https://id.example 7")).await;
    assert!(matches!(twin, Err(StoreError::Conflict { .. })), "{twin:?}");
    assert_eq!(store.user_by_oidc_subject("https://id.example 7").await.unwrap(), ada);
    for unknown in ["https://id.example 8", "", "ada"] {
        let found = store.user_by_oidc_subject(unknown).await;
        assert!(matches!(found, Err(StoreError::NotFound)), "{unknown:?}: {found:?}");
    }
}

async fn roles_change_but_an_admin_stays(store: &dyn Store) {
    store.create_user(admin("root")).await.unwrap();
    store.create_user(user("ada")).await.unwrap();
    let last = store.update_user_role("id-root", Role::Operator).await;
    assert!(matches!(last, Err(StoreError::LastAdmin)), "{last:?}");
    assert!(matches!(store.delete_user("id-root").await, Err(StoreError::LastAdmin)));
    let unknown = store.update_user_role("id-eve", Role::Admin).await;
    assert!(matches!(unknown, Err(StoreError::NotFound)));

    assert_eq!(store.update_user_role("id-ada", Role::Admin).await.unwrap().role, Role::Admin);
    assert_eq!(store.update_user_role("id-root", Role::None).await.unwrap().role, Role::None);
    assert!(matches!(store.delete_user("id-ada").await, Err(StoreError::LastAdmin)));
    let names: Vec<_> = store.list_users().await.unwrap().into_iter().map(|u| u.name).collect();
    assert_eq!(names, ["ada", "root"]);
}

async fn grants_come_and_go(store: &dyn Store) {
    store.create_user(user("ada")).await.unwrap();
    store.create_user(user("bob")).await.unwrap();
    let (dev, db) = (grant("g1", Role::Operator, "env=dev"), grant("g2", Role::Admin, "role=db"));
    let one = store.create_grant("id-ada", dev.clone()).await.unwrap();
    assert_eq!(one.grants.as_slice(), std::slice::from_ref(&dev));
    let both = store.create_grant("id-ada", db.clone()).await.unwrap();
    assert_eq!(both.grants, [dev.clone(), db.clone()]);
    let twice = store.create_grant("id-ada", grant("g3", Role::Operator, "env=dev")).await;
    assert_eq!(twice.unwrap().grants, both.grants);
    let nobody = store.create_grant("id-eve", grant("g4", Role::Operator, "env=dev")).await;
    assert!(matches!(nobody, Err(StoreError::NotFound)));

    assert_eq!(store.user_by_name("ada").await.unwrap().grants, both.grants);
    assert_eq!(store.user_by_id("id-ada").await.unwrap().grants, both.grants);
    assert_eq!(store.list_users().await.unwrap()[0].grants, both.grants);
    assert!(store.list_users().await.unwrap()[1].grants.is_empty());

    assert!(matches!(store.delete_grant("id-bob", "g1").await, Err(StoreError::NotFound)));
    assert_eq!(store.delete_grant("id-ada", "g1").await.unwrap().grants, [db]);
    assert!(matches!(store.delete_grant("id-ada", "g1").await, Err(StoreError::NotFound)));
    store.delete_user("id-ada").await.unwrap();
    store.create_user(user("ada")).await.unwrap();
    assert!(store.user_by_id("id-ada").await.unwrap().grants.is_empty(), "gone with the user");
}

async fn logins_end_with_a_password(store: &dyn Store) {
    store.create_user(user("ada")).await.unwrap();
    store.create_user(user("bob")).await.unwrap();
    store.create_refresh_token(refresh("a", "f", "ada"), 1, NOW).await.unwrap();
    store.create_refresh_token(refresh("b", "g", "bob"), 1, NOW).await.unwrap();
    let ended = store.end_logins("id-ada", None, None).await.unwrap();
    assert_eq!((ended.login_version, ended.password_hash), (2, user("ada").password_hash));
    let changed = store.end_logins("id-ada", Some("other".to_owned()), Some(2)).await.unwrap();
    assert_eq!((changed.login_version, changed.password_hash.as_str()), (3, "other"));
    assert!(matches!(store.end_logins("id-eve", None, None).await, Err(StoreError::NotFound)));

    let (a, b) = (hash("a"), hash("b"));
    let late = store.end_logins("id-ada", Some("old".to_owned()), Some(2)).await;
    assert!(matches!(late, Err(StoreError::NotFound)), "another one was set meanwhile");

    let rotate = |of| store.rotate_refresh_token(of, "new", NOW + DAY, NOW);
    assert_eq!(rotate(&a).await.unwrap(), Rotation::Unknown);
    let late = store.create_refresh_token(refresh("c", "h", "ada"), 2, NOW).await;
    assert!(matches!(late, Err(StoreError::NotFound)), "it began before the logins ended");
    store.create_refresh_token(refresh("c", "h", "ada"), 3, NOW).await.unwrap();
    assert!(matches!(rotate(&b).await.unwrap(), Rotation::Rotated { .. }));
}

async fn api_tokens_are_found_listed_and_deleted(store: &dyn Store) {
    store.create_user(user("bob")).await.unwrap();
    store.create_user(user("ada")).await.unwrap();
    let (ci, web, of_bob) =
        (api_token("ada", "ci"), api_token("ada", "web"), api_token("bob", "ci"));
    for token in [&web, &of_bob, &ci] {
        store.create_api_token(token.clone()).await.unwrap();
    }
    let twin = ApiTokenRecord { id: "x".into(), hash: hash("x"), ..ci.clone() };
    let taken = store.create_api_token(twin).await;
    assert!(matches!(taken, Err(StoreError::Conflict { what: "name" })), "{taken:?}");
    let orphan = ApiTokenRecord { user_id: "id-eve".into(), ..api_token("eve", "ci") };
    assert!(matches!(store.create_api_token(orphan).await, Err(StoreError::NotFound)));

    assert_eq!(store.api_token(&ci.hash).await.unwrap(), ci);
    assert!(matches!(store.api_token(&hash("x")).await, Err(StoreError::NotFound)));
    let all = store.list_api_tokens(None, NOW).await.unwrap();
    assert_eq!(all, [ci.clone(), web.clone(), of_bob.clone()]);
    let of_one = store.list_api_tokens(Some("id-bob"), NOW).await.unwrap();
    assert_eq!(of_one.as_slice(), std::slice::from_ref(&of_bob));

    store.touch_api_token(&ci.id, NOW + 5).await.unwrap();
    store.touch_api_token(&ci.id, NOW + 2).await.unwrap();
    store.touch_api_token("unknown", NOW).await.unwrap();
    assert_eq!(store.api_token(&ci.hash).await.unwrap().last_used_at, Some(NOW + 5));

    store.delete_api_token(&web.id).await.unwrap();
    assert!(matches!(store.delete_api_token(&web.id).await, Err(StoreError::NotFound)));
    store.delete_user("id-ada").await.unwrap();
    assert_eq!(store.list_api_tokens(None, NOW).await.unwrap(), [of_bob]);
}

async fn api_tokens_expire_and_are_forgotten(store: &dyn Store) {
    store.create_user(user("ada")).await.unwrap();
    store.create_api_token(api_token("ada", "ci")).await.unwrap();
    assert_eq!(store.list_api_tokens(None, NOW + 2 * DAY).await.unwrap().len(), 1);
    assert!(store.list_api_tokens(None, NOW + 2 * DAY + 1).await.unwrap().is_empty());
    let later = ApiTokenRecord { created_at: NOW + 3 * DAY, ..api_token("ada", "new") };
    store.create_api_token(later).await.unwrap();
    assert!(matches!(store.api_token(&hash("ada/ci")).await, Err(StoreError::NotFound)));
}
