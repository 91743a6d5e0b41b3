//! The entries of an archive whose maker is not trusted. The tar crate keeps long names and extended headers in
//! memory, however long they are; here it gets so many bytes for them and no more.

use std::{
    cell::Cell,
    io::{self, Read},
};

use tar::{Archive, Entry};

/// All that may describe one entry, bytes: long names, extended headers and what fills their blocks.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// What tar reads from.
pub(super) struct Bounded<'a, R> {
    from: R,
    /// What may be read before there is an entry; None while one is read.
    left: &'a Cell<Option<u64>>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.get() else { return self.from.read(buffer) };
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if room < buffer.len().min(1) {
            return Err(io::Error::other("the name or header of an entry is longer than 1 MiB"));
        }
        let read = self.from.read(&mut buffer[..room])?;
        self.left.set(Some(left - read as u64));
        Ok(read)
    }
}

/// Gives each entry to `take`, but for global headers, and reads on to the archive's end, so that the call that
/// brings it ends in order.
pub(super) fn each<R: Read>(
    from: R,
    mut take: impl FnMut(&mut Entry<'_, Bounded<'_, R>>) -> io::Result<()>,
) -> io::Result<()> {
    let left = Cell::new(Some(MAX_DESCRIPTION));
    let mut archive = Archive::new(Bounded { from, left: &left });
    for entry in archive.entries()? {
        let mut entry = entry?;
        left.set(None);
        if !entry.header().entry_type().is_pax_global_extensions() {
            take(&mut entry)?;
        }
        // What is left of it is no description of the next.
        io::copy(&mut entry, &mut io::sink())?;
        left.set(Some(MAX_DESCRIPTION));
    }
    io::copy(&mut archive.into_inner().from, &mut io::sink()).map(drop)
}

#[cfg(test)]
mod tests {
    use tar::{EntryType, Header};

    use super::*;

    fn header(kind: EntryType, size: u64) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn entry(kind: EntryType, data: &[u8]) -> Vec<u8> {
        let mut bytes = [header(kind, data.len() as u64), data.to_vec()].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    /// Counts what is read.
    struct Counted<R>(R, u64);

    impl<R: Read> Read for &mut Counted<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(buffer)?;
            self.1 += read as u64;
            Ok(read)
        }
    }

    #[test]
    fn a_name_without_end_is_refused_after_a_mebibyte() {
        let kinds = [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader];
        for kind in kinds {
            let header = header(kind, 4 << 30);
            let mut from = Counted(header.chain(io::repeat(b'n')), 0);
            let error = each(&mut from, |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains("longer than 1 MiB"), "{error}");
            assert_eq!(from.1, MAX_DESCRIPTION, "{kind:?}");
        }
    }

    #[test]
    fn names_that_are_long_are_read_and_data_has_no_bound() {
        let long = "long/".repeat(700);
        let large = vec![b'd'; 3 << 20];
        let archive = [
            entry(EntryType::XGlobalHeader, &large),
            entry(EntryType::GNULongName, long.as_bytes()),
            entry(EntryType::Regular, &large),
            entry(EntryType::Regular, &large),
            entry(EntryType::Regular, b"small"),
            vec![0; 10_240],
        ];
        let archive = archive.concat();
        let mut from = Counted(archive.as_slice(), 0);
        let mut seen = Vec::new();
        each(&mut from, |entry| {
            // The second large one is not read at all.
            let read = match seen.len() {
                1 => 0,
                _ => io::copy(entry, &mut io::sink())?,
            };
            seen.push((entry.path_bytes().len(), read));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(long.len(), 3 << 20), (0, 0), (0, 5)]);
        assert_eq!(from.1, archive.len() as u64, "the end was not read");
    }
}
