//! Honest archives pass unchanged however they are cut; each way out is refused before its bytes go on.

use proptest::prelude::*;

use super::*;

/// A header of the POSIX format.
fn header(kind: u8, name: &[u8], target: &[u8], size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target);
    block[257..265].copy_from_slice(b"ustar\x0000");
    sealed(block)
}

fn sealed(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    let sum = checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// An entry with its data and padding.
fn entry(kind: u8, name: &[u8], target: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, name, target, data.len() as u64).to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn file(name: &[u8]) -> Vec<u8> {
    entry(b'0', name, b"", b"data")
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        data.extend_from_slice(format!("{length}{body}").as_bytes());
    }
    entry(b'x', b"pax", b"", &data)
}

fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 2 * BLOCK]].concat()
}

fn check(archive: &[u8]) -> std::result::Result<Vec<u8>, String> {
    fuzz_tar_check(&[archive])
}

#[test]
fn an_honest_archive_passes_unchanged_however_it_is_cut() {
    let long = "long/".repeat(60) + "name";
    let archive = tar(&[
        entry(b'g', b"pax_global_header", b"", b"14 comment=ab\n"),
        entry(b'5', b"etc/", b"", b""),
        file(b"etc/hosts"),
        file(b"./etc/..hidden"),
        entry(b'1', b"etc/again", b"etc/hosts", b""),
        entry(b'2', b"etc/mtab", b"/proc/self/mounts", b""),
        entry(b'2', b"etc/up", b"../../../../up", b""),
        entry(b'1', b"etc/mtab2", b"etc/mtab", b""),
        [pax(&[("path", &long), ("mtime", "1.5")]), file(b"short")].concat(),
        [entry(b'L', b"././@LongLink", b"", &[long.as_bytes(), b"\0"].concat()), file(b"s")]
            .concat(),
        entry(0, b"old", b"", &[7; 1500]),
        [pax(&[("size", "600")]), header(b'0', b"sized", b"", 0).to_vec(), vec![1; 1024]].concat(),
    ]);
    let archive = [archive, vec![0; 8192]].concat(); // GNU tar fills its last record.
    for size in [1, 7, 511, 512, 513, 4096, archive.len()] {
        let pieces: Vec<&[u8]> = archive.chunks(size).collect();
        assert!(fuzz_tar_check(&pieces).as_deref() == Ok(&archive[..]), "in pieces of {size}");
    }
    assert!(check(&tar(&[])).is_ok(), "an empty archive is one");
}

#[test]
fn each_way_out_is_refused_with_its_reason() {
    let link = || entry(b'2', b"a/link", b"/etc", b"");
    let long_name = |name: &str| entry(b'L', b"././@LongLink", b"", name.as_bytes());
    let gnu_with_prefix = {
        let mut block = header(b'0', b"passwd", b"", 0);
        block[257..265].copy_from_slice(b"ustar  \0");
        block[345..348].copy_from_slice(b"/et");
        sealed(block).to_vec()
    };
    let signed = {
        let mut block = header(b'0', b"f\xff", b"", 0);
        let sum = checksum(&block) - 256;
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.to_vec()
    };
    let huge = {
        let mut block = header(b'0', b"huge", b"", 0);
        block[124..136].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
        sealed(block).to_vec()
    };
    let cases: Vec<(Vec<Vec<u8>>, &str)> = vec![
        (vec![file(b"/etc/passwd")], "absolute"),
        (vec![file(b"../x")], "\"..\""),
        (vec![file(b"a/../../x")], "\"..\""),
        (vec![file(b"a/..")], "\"..\""),
        (vec![entry(b'5', b"..", b"", b"")], "\"..\""),
        (vec![entry(b'1', b"h", b"/etc/passwd", b"")], "leads out"),
        (vec![entry(b'1', b"h", b"a/../../x", b"")], "leads out"),
        (vec![link(), file(b"a/link/passwd")], "beyond a symbolic link"),
        (vec![link(), file(b"./a//./link/passwd")], "beyond a symbolic link"),
        (vec![link(), entry(b'5', b"a/link/", b"", b""), file(b"a/link/x")], "beyond a symbolic"),
        (vec![link(), entry(b'1', b"b", b"a/link", b""), file(b"b/passwd")], "beyond a symbolic"),
        (vec![link(), entry(b'1', b"b", b"a/link/passwd", b"")], "through a symbolic link"),
        (vec![entry(b'2', b"./", b"/etc", b""), file(b"passwd")], "directory itself"),
        (vec![file(b".")], "directory itself"),
        (vec![entry(b'3', b"dev", b"", b"")], "device"),
        (vec![entry(b'4', b"dev", b"", b"")], "device"),
        (vec![entry(b'6', b"pipe", b"", b"")], "fifo"),
        (vec![entry(b'S', b"sparse", b"", b"")], "sparse"),
        (vec![entry(b'7', b"odd", b"", b"")], "neither a file"),
        (vec![entry(b'V', b"label", b"", b"")], "neither a file"),
        (vec![entry(b'2', b"l", b"t", b"data")], "has data"),
        (vec![entry(b'5', b"d", b"", b"data")], "has data"),
        (vec![file(b"d/")], "ends with '/'"),
        (vec![entry(b'2', b"l", b"", b"")], "target"),
        (vec![pax(&[("path", "/etc/passwd")]), file(b"x")], "absolute"),
        (vec![pax(&[("path", "a"), ("path", "b")]), file(b"x")], "twice"),
        (vec![pax(&[("linkpath", "../x")]), entry(b'1', b"h", b"ok", b"")], "leads out"),
        (vec![pax(&[("size", "-1")]), file(b"x")], "broken"),
        (vec![pax(&[("size", "99999999999999999999")]), file(b"x")], "broken"),
        (vec![pax(&[("size", "1024")]), entry(b'5', b"d", b"", b"")], "has data"),
        (vec![pax(&[("path", "")]), file(b"x")], "broken"),
        (vec![pax(&[("path", "a\0b")]), file(b"x")], "broken"),
        (vec![pax(&[("GNU.sparse.major", "1")]), file(b"x")], "sparse"),
        (vec![pax(&[("hdrcharset", "BINARY")]), file(b"x")], "character set"),
        (vec![pax(&[("a", "b")]), pax(&[("a", "b")]), file(b"x")], "twice"),
        (vec![pax(&[("a", "b")]), long_name("y"), file(b"x")], "twice"),
        (vec![long_name("y"), pax(&[("a", "b")]), file(b"x")], "twice"),
        (vec![long_name("y"), long_name("z"), file(b"x")], "twice"),
        (vec![long_name("../y"), file(b"x")], "\"..\""),
        (vec![long_name("a\0b"), file(b"x")], "zero byte"),
        (vec![entry(b'x', b"pax", b"", b"999 a=b\n"), file(b"x")], "broken"),
        (vec![entry(b'x', b"pax", b"", b"no record"), file(b"x")], "broken"),
        (vec![entry(b'g', b"pax", b"", b"10 path=x\n"), file(b"x")], "global header"),
        (vec![pax(&[("a", "b")])], "an entry is due"),
        (vec![gnu_with_prefix], "no numbers"),
        (vec![file(b"ok"), signed], "checksum"),
        (vec![huge], "no number"),
        (vec![vec![0; BLOCK], file(b"x")], "follows the end"),
        (vec![vec![0; 2 * BLOCK], file(b"x")], "follows the end"),
        (
            vec![file(&[b'n'; 100]), pax(&[("path", &("n/".repeat(3000) + "n"))]), file(b"x")],
            "too long",
        ),
    ];
    for (entries, says) in cases {
        let told = check(&tar(&entries)).expect_err(says);
        assert!(told.contains(says), "{told:?} does not say {says:?}");
    }
}

#[test]
fn what_is_no_plain_archive_passes_no_byte() {
    // A gzip header has room for a name, so that the first block is a good tar header as well.
    let polyglot = {
        let mut block = header(b'0', b"name", b"", 0);
        block[..4].copy_from_slice(b"\x1f\x8b\x08\x08");
        sealed(block).to_vec()
    };
    for bytes in [
        polyglot,
        b"BZh91AY&SY".to_vec(),
        b"\xfd7zXZ\0rest".to_vec(),
        b"\x28\xb5\x2f\xfdrest".to_vec(),
        vec![b'x'; 2048],
        b"short".to_vec(),
        Vec::new(),
    ] {
        let mut check = TarCheck::new();
        match check.pass(&bytes) {
            Ok(passed) => {
                assert_eq!(passed, 0, "{bytes:?}");
                assert!(check.finish(bytes.len()).is_err(), "{bytes:?}");
            }
            Err(refusal) => assert!(refusal.entry.is_empty(), "{refusal}"),
        }
    }
}

#[test]
fn an_archive_that_is_cut_off_is_not_whole() {
    let archive = tar(&[file(b"a"), entry(b'0', b"b", b"", &[1; 700])]);
    for length in 0..archive.len() {
        assert!(fuzz_tar_check(&[&archive[..length]]).is_err(), "{length}");
    }
}

#[test]
fn nothing_of_an_entry_passes_before_its_header_is_good() {
    let archive = tar(&[file(b"good"), file(b"/bad")]);
    let mut check = TarCheck::new();
    assert_eq!(check.pass(&archive[..1024 + 511]).unwrap(), 1024);
    assert!(check.pass(&archive[1024..]).is_err());
}

/// Any names and targets of few parts, good and bad.
fn names() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![Just("a"), Just("b"), Just("."), Just(".."), Just(""), Just("c")];
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/").into_bytes())
}

proptest! {
    #[test]
    fn garbage_never_panics_and_cuts_make_no_difference(
        mut archive in prop::collection::vec(any::<u8>(), 0..3000),
        honest in any::<bool>(),
        cut in 0_usize..3000,
    ) {
        if honest {
            archive = [tar(&[file(b"a")]), archive].concat();
        }
        let (head, tail) = archive.split_at(cut.min(archive.len()));
        prop_assert_eq!(fuzz_tar_check(&[head, tail]), check(&archive));
    }

    /// What passes, unpacked as simply as can be, stays inside.
    #[test]
    fn whatever_passes_stays_inside(
        entries in prop::collection::vec((prop_oneof![Just(b'0'), Just(b'1'), Just(b'2'), Just(b'5')],
            names(), names()), 1..8),
    ) {
        let archive = tar(&entries.iter().map(|(kind, name, target)| {
            entry(*kind, name, if matches!(kind, b'1' | b'2') { target } else { b"" }, b"")
        }).collect::<Vec<_>>());
        if check(&archive).is_ok() {
            let mut links = HashSet::new();
            for (kind, name, target) in &entries {
                let parts: Vec<_> = name.split(|b| *b == b'/')
                    .filter(|p| !p.is_empty() && *p != b".").collect();
                prop_assert!(!name.starts_with(b"/") && !parts.contains(&&b".."[..]));
                for n in 1..parts.len() {
                    prop_assert!(!links.contains(&parts[..n]), "{:?}", parts);
                }
                if *kind == b'2' {
                    links.insert(parts);
                } else if *kind == b'1' {
                    prop_assert!(!target.starts_with(b"/"));
                    prop_assert!(!target.split(|b| *b == b'/').any(|p| p == b".."));
                }
            }
        }
    }
}
