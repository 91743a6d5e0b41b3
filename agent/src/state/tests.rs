//! The identity under crashes, torn files and flipped bits.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::*;

fn identity(certificate: u8) -> Identity {
    Identity {
        agent_id: "0123456789abcdef0123".to_owned(),
        name: "web-1".to_owned(),
        key: vec![1; 138],
        certificate: vec![certificate; 600],
        ca: vec![3; 500],
        controller: "controller.example.org:7444".to_owned(),
        asked_labels: None,
    }
}

fn pending() -> PendingEnrollment {
    PendingEnrollment {
        key: vec![1; 138],
        name: "web-1".to_owned(),
        labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
        token: "dockctl1.secret.fingerprint".to_owned(),
        controller: "controller.example.org:7444".to_owned(),
    }
}

/// A data directory with an agent in it, closed.
fn enrolled() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    state.begin_enrollment(pending()).unwrap();
    state.complete_enrollment(identity(2)).unwrap();
    directory
}

/// Copies a data directory without what is no part of the state.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files below a directory, relative to it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Damages a copy of an agent's directory and opens it.
fn after(
    original: &Path,
    damage: impl FnOnce(&Path),
) -> (tempfile::TempDir, Result<State, StateError>) {
    let directory = tempfile::tempdir().unwrap();
    copy(original, directory.path());
    damage(directory.path());
    let state = State::open(directory.path());
    (directory, state)
}

#[test]
fn a_new_directory_is_empty_and_private() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    let state = State::open(&directory).unwrap();
    assert_eq!((state.identity(), state.pending_enrollment()), (None, None));
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    state.begin_enrollment(pending()).unwrap();
    let mode = |name| fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("identity.json"), mode("state"), mode("lock")), (0o600, 0o700, 0o600));
}

#[test]
fn each_step_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || State::open(directory.path()).unwrap();
    open().begin_enrollment(pending()).unwrap();
    assert_eq!(open().pending_enrollment(), Some(pending()));
    open().abandon_enrollment().unwrap();
    assert_eq!(open().pending_enrollment(), None);
    open().begin_enrollment(pending()).unwrap();
    open().complete_enrollment(identity(2)).unwrap();
    assert_eq!(open().identity(), Some(identity(2)));
    assert_eq!(open().pending_enrollment(), None);

    let refused = open().complete_renewal(vec![9], vec![9]).unwrap_err();
    assert!(matches!(refused, StateError::OutOfOrder(_)), "{refused}");
    assert_eq!(open().begin_renewal(vec![5; 138]).unwrap(), vec![5; 138]);
    // The agent was killed before the answer came: the same key is used again.
    assert_eq!(open().begin_renewal(vec![6; 138]).unwrap(), vec![5; 138]);
    assert_eq!(open().identity(), Some(identity(2)), "the old identity is good until then");
    let renewed = open().complete_renewal(vec![7; 600], vec![3; 500]).unwrap();
    assert_eq!(renewed, Identity { key: vec![5; 138], ..identity(7) });
    assert_eq!(open().identity(), Some(renewed));
    assert_eq!(open().begin_renewal(vec![6; 138]).unwrap(), vec![6; 138]);
    assert!(!files(directory.path()).iter().any(|f| f.to_string_lossy().contains("broken")));
}

#[test]
fn one_process_at_a_time() {
    let directory = enrolled();
    let first = State::open(directory.path()).unwrap();
    let second = State::open(directory.path()).err().unwrap();
    assert!(matches!(second, StateError::InUse(_)), "{second}");
    drop(first);
    State::open(directory.path()).unwrap();
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{:?} {:?}", identity(2), pending());
    assert!(text.contains("web-1") && !text.contains("secret") && !text.contains("1, 1"), "{text}");
}

#[test]
fn a_database_cut_anywhere_costs_nothing() {
    let original = enrolled();
    let files = files(&original.path().join("state"));
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let length = fs::metadata(original.path().join("state").join(&file)).unwrap().len();
        // Every offset of a small file; of a big one the ends, where sled writes, and some between.
        let offsets = (0..length).filter(|at| {
            length <= 256 || *at < 24 || length - at <= 8 || at % (length / 120).max(1) == 0
        });
        for offset in offsets {
            let (directory, state) = after(original.path(), |directory| {
                let file = directory.join("state").join(&file);
                fs::OpenOptions::new().write(true).open(file).unwrap().set_len(offset).unwrap();
            });
            let state = state.unwrap_or_else(|e| panic!("{file:?} cut at {offset}: {e}"));
            assert_eq!(state.identity(), Some(identity(2)), "{file:?} cut at {offset}");
            // It is mended, not only read.
            state.begin_renewal(vec![5; 138]).unwrap();
            drop(state);
            fs::remove_file(directory.path().join("identity.json")).unwrap();
            let state = State::open(directory.path()).unwrap();
            assert_eq!(state.begin_renewal(vec![6]).unwrap(), vec![5; 138], "{file:?} {offset}");
        }
    }
}

#[test]
fn flipped_bits_in_the_database_cost_nothing() {
    let original = enrolled();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % u64::try_from(below).unwrap()).unwrap()
    };
    for file in files(&original.path().join("state")) {
        let bytes = fs::read(original.path().join("state").join(&file)).unwrap();
        // Most of a big file is padding: flip where something is written.
        let written: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        for _ in 0..100.min(written.len() * 8) {
            let (at, bit) = (written[random(written.len())], random(8));
            let (_directory, state) = after(original.path(), |directory| {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                fs::write(directory.join("state").join(&file), bytes).unwrap();
            });
            let state = state.unwrap_or_else(|e| panic!("{file:?} bit {bit} of {at}: {e}"));
            assert_eq!(state.identity(), Some(identity(2)), "{file:?} bit {bit} of {at}");
            state.begin_renewal(vec![5; 138]).unwrap();
        }
    }
}

#[test]
fn a_mirror_cut_or_flipped_anywhere_costs_nothing() {
    let original = enrolled();
    let path = original.path().join("identity.json");
    let good = fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(7).chain([1, 2, good.len() - 1]) {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        for bad in [&good[..at], &flipped] {
            fs::write(&path, bad).unwrap();
            let state = State::open(original.path()).unwrap();
            assert_eq!(state.identity(), Some(identity(2)), "{at}");
            drop(state);
            assert_eq!(fs::read(&path).unwrap(), good, "mended");
        }
    }
}

#[test]
fn every_cut_and_flip_of_a_copy_is_noticed() {
    let record = Record { revision: 3, identity: Some(identity(2)), ..Record::default() };
    let good = record.encode().unwrap();
    assert_eq!(Record::decode(&good), Found::Good(Box::new(record.clone())));
    for at in 0..good.len() {
        assert_eq!(Record::decode(&good[..at]), Found::Broken, "cut at {at}");
        for bit in 0..8 {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << bit;
            // A flip may hit the spelling (an escape, a blank) but never the record.
            assert_ne!(Record::decode(&flipped), Found::Nothing);
            if let Found::Good(read) = Record::decode(&flipped) {
                assert_eq!(*read, record, "bit {bit} of {at}");
            }
        }
    }
}

#[test]
fn a_crash_between_the_two_writes_leaves_the_newer_one() {
    let older = enrolled();
    let newer = tempfile::tempdir().unwrap();
    copy(older.path(), newer.path());
    let state = State::open(newer.path()).unwrap();
    state.begin_renewal(vec![5; 138]).unwrap();
    let renewed = state.complete_renewal(vec![7; 600], vec![3; 500]).unwrap();
    drop(state);

    for (mirror, database) in [(&newer, &older), (&older, &newer)] {
        let directory = tempfile::tempdir().unwrap();
        copy(&database.path().join("state"), &directory.path().join("state"));
        let path = directory.path().join("identity.json");
        fs::copy(mirror.path().join("identity.json"), &path).unwrap();
        let state = State::open(directory.path()).unwrap();
        assert_eq!(state.identity(), Some(renewed.clone()));
        drop(state);
        // Both copies are the newer one now: either is enough.
        let (_a, alone) =
            after(directory.path(), |d| fs::remove_file(d.join("identity.json")).unwrap());
        assert_eq!(alone.unwrap().identity(), Some(renewed.clone()));
        let (_b, alone) = after(directory.path(), |d| fs::remove_dir_all(d.join("state")).unwrap());
        assert_eq!(alone.unwrap().identity(), Some(renewed.clone()));
    }
}

#[test]
fn a_crash_in_the_first_write_of_all_is_a_fresh_start() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("identity.new"), "{\"sha256\":\"").unwrap();
    let state = State::open(directory.path()).unwrap();
    assert_eq!((state.identity(), state.pending_enrollment()), (None, None));
    state.begin_enrollment(pending()).unwrap();
    drop(state);
    // After the mirror and before the database, or half-way through making it.
    for damage in [
        (|d: &Path| fs::remove_dir_all(d.join("state")).unwrap()) as fn(&Path),
        |d| {
            fs::remove_dir_all(d.join("state")).unwrap();
            fs::create_dir(d.join("state")).unwrap();
        },
        |d| fs::write(d.join("state/db"), "").unwrap(),
    ] {
        let (_directory, state) = after(directory.path(), damage);
        assert_eq!(state.unwrap().pending_enrollment(), Some(pending()));
    }
}

#[test]
fn both_copies_broken_is_an_error_that_says_what_to_do() {
    let original = enrolled();
    for mirror in [None, Some("")] {
        let (_directory, state) = after(original.path(), |directory| {
            fs::write(directory.join("state/conf"), "nothing but nonsense").unwrap();
            fs::write(directory.join("state/db"), "nonsense").unwrap();
            let path = directory.join("identity.json");
            match mirror {
                None => fs::remove_file(path).unwrap(),
                Some(text) => fs::write(path, text).unwrap(),
            }
        });
        let error = state.err().unwrap();
        assert!(matches!(error, StateError::Lost(_)), "{error}");
        assert!(error.to_string().contains("join again"), "{error}");
    }
}

#[test]
fn at_most_one_broken_database_is_kept() {
    let original = enrolled();
    for n in 1..=3 {
        fs::write(original.path().join("state/conf"), "nothing but nonsense").unwrap();
        let state = State::open(original.path()).unwrap();
        assert_eq!(state.identity(), Some(identity(2)));
        drop(state);
        let names = fs::read_dir(original.path()).unwrap().map(|e| e.unwrap().file_name());
        let broken: Vec<_> = names.filter(|n| n.to_string_lossy().contains("broken")).collect();
        assert_eq!(broken, [format!("state.broken-{n}").as_str()]);
    }
}

#[test]
fn a_write_that_fails_is_an_error_and_the_agent_goes_on() {
    let directory = enrolled();
    let state = State::open(directory.path()).unwrap();
    // A directory where the new mirror should be written.
    let obstacle = directory.path().join("identity.new");
    fs::create_dir(&obstacle).unwrap();
    state.begin_renewal(vec![5; 138]).unwrap_err();
    assert_eq!(state.identity(), Some(identity(2)));
    assert!(matches!(state.complete_renewal(vec![7], vec![3]), Err(StateError::OutOfOrder(_))));
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(state.begin_renewal(vec![6; 138]).unwrap(), vec![6; 138]);
    drop(state);
    assert_eq!(
        State::open(directory.path()).unwrap().begin_renewal(vec![1]).unwrap(),
        vec![6; 138]
    );
}
