//! Version negotiation of the link. Pure.

/// The oldest protocol version that this build speaks.
pub const MIN: u32 = 1;
/// The newest protocol version that this build speaks.
pub const MAX: u32 = 1;

/// The newest version that lies in both ranges.
pub fn negotiate(ours: (u32, u32), theirs: (u32, u32)) -> Option<u32> {
    let newest = ours.1.min(theirs.1);
    (newest >= ours.0.max(theirs.0)).then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::negotiate;
    use proptest::prelude::*;

    #[test]
    fn newest_common_version() {
        assert_eq!(negotiate((1, 3), (2, 5)), Some(3));
        assert_eq!(negotiate((1, 1), (1, 9)), Some(1));
        assert_eq!(negotiate((1, 1), (2, 3)), None);
        assert_eq!(negotiate((2, 3), (1, 1)), None);
    }

    proptest! {
        #[test]
        fn is_symmetric_and_in_both_ranges(a in 0u32..9, b in 0u32..9, c in 0u32..9, d in 0u32..9) {
            let (ours, theirs) = ((a.min(b), a.max(b)), (c.min(d), c.max(d)));
            let agreed = negotiate(ours, theirs);
            prop_assert_eq!(agreed, negotiate(theirs, ours));
            match agreed {
                Some(v) => prop_assert!(v >= ours.0 && v <= ours.1 && v >= theirs.0 && v <= theirs.1),
                None => prop_assert!(ours.1 < theirs.0 || theirs.1 < ours.0),
            }
        }
    }
}
