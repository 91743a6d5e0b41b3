//! What a caller may do where: the one place that decides it, from the role that an rpc's policy asks for, the
//! caller's roles, and the labels that the controller keeps of each agent.

use std::collections::HashMap;

use dockctl_api::v1::Role;

use super::names::Selector;
use crate::store::{ApiTokenRecord, UserRecord};

/// A role on the agents that a selector selects.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    role: Role,
    selector: Selector,
}

/// What somebody may do: each layer must allow it, and a layer allows what one of its grants does. A login has
/// one layer, an API token a second one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    layers: Vec<Vec<Grant>>,
}

impl Authority {
    /// What a user may do.
    pub fn of_user(user: &UserRecord) -> Self {
        let own = Grant { role: user.role, selector: Selector::default() };
        let grants = user.grants.iter().filter_map(|grant| {
            // It was parsed before it was stored; what cannot be read grants nothing.
            let selector = Selector::parse(&grant.selector).ok().filter(|s| !s.is_empty())?;
            Some(Grant { role: grant.role, selector })
        });
        Self { layers: vec![std::iter::once(own).chain(grants).collect()] }
    }

    /// What a token of that user's may do.
    pub fn of_token(mut self, token: &ApiTokenRecord) -> Self {
        let selector = Selector::parse(&token.selector);
        let grants = selector.map(|selector| Grant { role: token.role, selector });
        self.layers.push(grants.into_iter().collect());
        self
    }

    /// Whether the caller has a role on an agent with these labels.
    pub fn on(&self, role: Role, labels: &HashMap<String, String>) -> bool {
        self.has(role, |selector| selector.matches(labels))
    }

    /// Whether the caller has a role for the whole fleet, agents to come included.
    pub fn everywhere(&self, role: Role) -> bool {
        self.has(role, Selector::is_empty)
    }

    /// Whether there may be an agent on which the caller has a role.
    pub fn somewhere(&self, role: Role) -> bool {
        self.has(role, |_| true)
    }

    /// A selector narrowed to the agents on which the caller has a role.
    pub fn within(&self, role: Role, selector: Selector) -> Selector {
        self.layers.iter().fold(selector, |selector, layer| {
            let grants = layer.iter().filter(|grant| grant.role >= role);
            selector.and_any_of(grants.map(|grant| grant.selector.clone()).collect())
        })
    }

    fn has(&self, role: Role, fits: impl Fn(&Selector) -> bool) -> bool {
        // What concerns only the caller himself needs no more than a caller.
        role == Role::None
            || self
                .layers
                .iter()
                .all(|layer| layer.iter().any(|grant| grant.role >= role && fits(&grant.selector)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::GrantRecord;

    fn labels(text: &str) -> HashMap<String, String> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn user(role: Role, grants: &[(Role, &str)]) -> Authority {
        let grants = grants.iter().map(|(role, selector)| GrantRecord {
            id: String::new(),
            role: *role,
            selector: (*selector).to_owned(),
            created_at: 0,
            created_by: String::new(),
        });
        Authority::of_user(&UserRecord {
            id: String::new(),
            name: String::new(),
            password_hash: String::new(),
            oidc_subject: None,
            role,
            created_at: 0,
            login_version: 1,
            grants: grants.collect(),
        })
    }

    fn token(role: Role, selector: &str) -> ApiTokenRecord {
        ApiTokenRecord {
            id: String::new(),
            hash: String::new(),
            user_id: String::new(),
            username: String::new(),
            name: String::new(),
            role,
            selector: selector.to_owned(),
            created_at: 0,
            expires_at: 0,
            last_used_at: None,
        }
    }

    #[test]
    fn a_grant_adds_to_the_users_own_role_where_it_selects() {
        let ada = user(Role::Viewer, &[(Role::Operator, "env=dev"), (Role::Admin, "env=dev,own")]);
        let (dev, prod, own) = (labels("env=dev"), labels("env=prod"), labels("env=dev,own=1"));
        for (role, on_dev, on_prod, on_own) in [
            (Role::None, true, true, true),
            (Role::Viewer, true, true, true),
            (Role::Operator, true, false, true),
            (Role::Admin, false, false, true),
        ] {
            let seen = [&dev, &prod, &own].map(|labels| ada.on(role, labels));
            assert_eq!(seen, [on_dev, on_prod, on_own], "{role:?}");
        }
        assert!(ada.everywhere(Role::Viewer) && !ada.everywhere(Role::Operator));
        assert!(ada.somewhere(Role::Admin));
        let nobody = user(Role::None, &[]);
        assert!(!nobody.somewhere(Role::Viewer) && nobody.everywhere(Role::None));
    }

    #[test]
    fn a_token_never_has_more_than_its_owner() {
        let owner = user(Role::Viewer, &[(Role::Operator, "env=dev")]);
        let (dev, prod) = (labels("env=dev,role=db"), labels("env=prod,role=db"));
        let all = owner.clone().of_token(&token(Role::Admin, ""));
        assert!(all.on(Role::Operator, &dev) && !all.on(Role::Operator, &prod));
        let databases = owner.clone().of_token(&token(Role::Admin, "role=db"));
        assert!(databases.on(Role::Viewer, &prod) && !databases.everywhere(Role::Viewer));
        assert!(!databases.on(Role::Viewer, &labels("env=dev")));
        let looks = owner.of_token(&token(Role::Viewer, ""));
        assert!(looks.on(Role::Viewer, &dev) && !looks.on(Role::Operator, &dev));
    }

    fn role() -> impl Strategy<Value = Role> {
        prop::sample::select(vec![Role::None, Role::Viewer, Role::Operator, Role::Admin])
    }

    fn selector() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["", "a", "a=1", "b=2", "a=1,b=2", "c"])
    }

    proptest! {
        #[test]
        fn a_narrowed_selector_selects_what_is_allowed_and_nothing_else(
            own in role(),
            grants in prop::collection::vec((role(), selector()), 0..4),
            narrowed in prop::option::of((role(), selector())),
            asked in selector(),
            wanted in role(),
            has in prop::sample::select(vec!["", "a=1", "a=2", "b=2", "a=1,b=2", "c=3,a=1"]),
        ) {
            let mut authority = user(own, &grants);
            if let Some((role, selector)) = narrowed {
                authority = authority.of_token(&token(role, selector));
            }
            let labels = labels(has);
            let asked = Selector::parse(asked).unwrap();
            // Everybody has ROLE_NONE; no list asks for it.
            prop_assume!(wanted != Role::None);
            let within = authority.within(wanted, asked.clone());
            prop_assert_eq!(
                within.matches(&labels),
                asked.matches(&labels) && authority.on(wanted, &labels)
            );
            prop_assert_eq!(within.is_empty(), asked.is_empty() && authority.everywhere(wanted));
        }
    }
}
