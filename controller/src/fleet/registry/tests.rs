use super::*;

fn record(id: &str, revision: u64) -> AgentRecord {
    AgentRecord {
        id: id.to_owned(),
        name: "web-1".to_owned(),
        labels: HashMap::from([("revision".to_owned(), revision.to_string())]),
        standing: Standing::Active,
        join_token_id: String::new(),
        key_fingerprint: String::new(),
        generation_issued: 1,
        generation_confirmed: 0,
        certificate_expires_at: 0,
        enrolled_at: 0,
        last_seen_at: None,
        epoch: 0,
        version: String::new(),
        platform: String::new(),
        address: String::new(),
        revision,
    }
}

fn revoked(revision: u64) -> AgentRecord {
    AgentRecord { standing: Standing::Revoked { reason: "stolen".into() }, ..record("a", revision) }
}

#[test]
fn of_records_that_come_in_any_order_the_newest_stays() {
    for order in [[2, 3, 4], [4, 3, 2], [3, 4, 2], [4, 2, 3]] {
        let registry = Registry::new(vec![record("a", 1)]);
        for revision in order {
            registry.refresh(record("a", revision));
        }
        assert_eq!(registry.agent("a").unwrap().labels["revision"], "4", "{order:?}");
    }
}

#[test]
fn a_revocation_is_not_undone_by_what_was_written_before_it() {
    let registry = Registry::new(vec![record("a", 1)]);
    registry.refresh(revoked(3));
    registry.refresh(record("a", 2));
    registry.enrolled(record("a", 2));
    assert_eq!(registry.agent("a").unwrap().standing(), AgentStanding::Revoked);
}

#[test]
fn a_deleted_agent_does_not_come_back_with_a_late_record() {
    let registry = Registry::new(vec![record("a", 1)]);
    registry.remove("a");
    registry.refresh(record("a", 2));
    assert!(registry.agent("web-1").is_err());
}

#[test]
fn a_deletion_that_comes_late_leaves_the_successor_its_name() {
    let registry = Registry::new(vec![record("a", 1)]);
    registry.enrolled(record("b", 1));
    registry.remove("a");
    assert_eq!(registry.agent("web-1").unwrap().id, "b");
}

#[test]
fn an_enrolment_that_comes_late_does_not_take_the_successors_name_with_it() {
    let registry = Registry::new(vec![record("b", 1)]);
    registry.enrolled(record("a", 1));
    registry.remove("a");
    assert_eq!(registry.agent("web-1").unwrap().id, "b");
    assert_eq!(registry.agents(&Selector::default()).len(), 1);
}

#[test]
fn a_process_that_comes_back_after_another_is_a_second_machine() {
    let registry = Registry::new(vec![record("a", 1)]);
    assert!(registry.admit_process("a", "one", 1));
    assert!(registry.admit_process("a", "one", 2), "it reconnects");
    assert!(registry.admit_process("a", "two", 3), "it was restarted");
    assert!(!registry.admit_process("a", "one", 4));
}

#[test]
fn admissions_that_overtake_each_other_are_no_second_machine() {
    let registry = Registry::new(vec![record("a", 1)]);
    assert!(registry.admit_process("a", "two", 2));
    assert!(registry.admit_process("a", "one", 1), "it was first and comes late");
    assert!(registry.admit_process("a", "two", 3), "it stays the current one");
    assert!(!registry.admit_process("a", "one", 4), "now it does come back");
}
