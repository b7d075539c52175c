//! Where in a file is data? The rest are holes, which need not travel.

use std::{fs::File, io};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};
use serde::{Deserialize, Serialize};

/// Extents begin and end at multiples of this many bytes, but at a file's end. So a file of a given length has a bounded
/// number of them, whatever its author did.
pub const GRAIN: u64 = 64 * 1024;
/// How many extents are in one page of the list.
pub(crate) const PAGE: usize = 1024;

/// Data from `start` on, `len` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl Extent {
    pub(crate) fn end(self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// A part of a file's list of extents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    /// In order, and apart from each other.
    pub(crate) extents: Vec<Extent>,
    /// Where the next page begins, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<u64>,
}

/// The extents of the first `length` bytes of a file, from `from` on. Blocks. Takes at most two seeks for each extent.
pub(crate) fn page(file: &File, from: u64, length: u64) -> io::Result<Page> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut at = from;
    while at < length {
        let Some(data) = next_data(file, at)? else { break };
        // The data may begin anywhere in its grain, but what came before `at` is not asked for.
        let start = (data / GRAIN * GRAIN).max(at);
        if start >= length {
            break;
        }
        let hole = next_hole(file, data)?.max(data + 1);
        let end = hole.div_ceil(GRAIN).saturating_mul(GRAIN).min(length);
        at = end;
        let (full, len) = (extents.len() == PAGE, end - start);
        match extents.last_mut() {
            Some(last) if last.end() == start => last.len += len,
            Some(last) if full => {
                let next = Some(last.end());
                return Ok(Page { extents, next });
            }
            _ => extents.push(Extent { start, len }),
        }
    }
    Ok(Page { extents, next: None })
}

fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn next_hole(file: &File, from: u64) -> io::Result<u64> {
    Ok(seek(file, SeekFrom::Hole(from))?)
}

/// What a peer's list breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list of extents is not valid: {0}")]
pub(crate) struct BadPage(&'static str);

impl Page {
    /// Checks a page that a peer sent for this request: what passes is in bounds, in order, and gets on.
    ///
    /// All pages but the last are full, and extents keep to the grain. So there are no more pages than the file's length
    /// allows, and asking for them ends.
    pub(crate) fn checked(self, from: u64, length: u64) -> Result<Self, BadPage> {
        let bad = |rule| Err(BadPage(rule));
        if self.extents.len() > PAGE {
            return bad("a page has too many");
        }
        let mut at = from;
        for (index, extent) in self.extents.iter().enumerate() {
            let Some(end) = extent.start.checked_add(extent.len) else {
                return bad("one is longer than any file");
            };
            if extent.len == 0 {
                return bad("one is empty");
            }
            // The next one must leave a grain between, or they would be one.
            let gap = if index == 0 { 0 } else { GRAIN };
            if extent.start < at.saturating_add(gap) {
                return bad("they overlap, touch or go back");
            }
            if end > length {
                return bad("one reaches over the file's end");
            }
            let on_grain = |place: u64| place.is_multiple_of(GRAIN);
            if !(on_grain(extent.start) || (index == 0 && extent.start == from)) || !(on_grain(end) || end == length) {
                return bad("one does not keep to the grain");
            }
            at = end;
        }
        match self.next {
            None => Ok(self),
            Some(next) if self.extents.len() == PAGE && next == at && next < length => Ok(self),
            Some(_) => bad("a page that is not full has another one after it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use proptest::prelude::*;

    use super::*;

    fn sparse(length: u64, data: &[(u64, usize)]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        for (at, len) in data {
            file.write_all_at(&vec![7; *len], *at).unwrap();
        }
        file
    }

    fn extent(start: u64, len: u64) -> Extent {
        Extent { start, len }
    }

    #[test]
    fn an_empty_file_and_one_hole_have_no_extents() {
        for length in [0, 1, 10 * GRAIN] {
            let page = page(&sparse(length, &[]), 0, length).unwrap();
            assert_eq!(
                page,
                Page {
                    extents: vec![],
                    next: None
                },
                "{length}"
            );
        }
    }

    #[test]
    fn data_is_found_in_whole_grains_and_ends_with_the_file() {
        let length = 20 * GRAIN + 5;
        let file = sparse(length, &[(0, 1), (10 * GRAIN + 9, 3), (20 * GRAIN, 5)]);
        let page = page(&file, 0, length).unwrap().checked(0, length).unwrap();
        let expected = vec![extent(0, GRAIN), extent(10 * GRAIN, GRAIN), extent(20 * GRAIN, 5)];
        assert_eq!(page.extents, expected);
        let rest = super::page(&file, 10 * GRAIN + 4, length).unwrap();
        assert_eq!(
            rest.extents[0],
            extent(10 * GRAIN + 4, GRAIN - 4),
            "resumed inside of an extent"
        );
        assert!(rest.checked(10 * GRAIN + 4, length).is_ok());
    }

    #[test]
    fn a_long_list_comes_in_pages_that_join() {
        let length = 2 * GRAIN * (PAGE as u64 + 10);
        let data: Vec<_> = (0..PAGE as u64 + 10).map(|index| (2 * GRAIN * index, 1)).collect();
        let file = sparse(length, &data);
        let first = page(&file, 0, length).unwrap().checked(0, length).unwrap();
        let next = first.next.unwrap();
        let second = page(&file, next, length).unwrap().checked(next, length).unwrap();
        assert_eq!(first.extents.len() + second.extents.len(), data.len());
        assert_eq!(second.next, None);
    }

    #[test]
    fn lists_that_overlap_go_back_or_never_end_are_refused() {
        let length = 1000 * GRAIN;
        let full = |from: u64| {
            (0..PAGE as u64)
                .map(|i| extent(from + 2 * i * GRAIN, GRAIN))
                .collect::<Vec<_>>()
        };
        let refused = |extents: Vec<Extent>, next, length| Page { extents, next }.checked(GRAIN, length).is_err();
        assert!(
            refused(vec![extent(0, GRAIN)], None, length),
            "before what was asked for"
        );
        assert!(refused(
            vec![extent(GRAIN, 2 * GRAIN), extent(2 * GRAIN, GRAIN)],
            None,
            length
        ));
        assert!(
            refused(vec![extent(GRAIN, GRAIN), extent(2 * GRAIN, GRAIN)], None, length),
            "touching"
        );
        assert!(refused(
            vec![extent(4 * GRAIN, GRAIN), extent(GRAIN, GRAIN)],
            None,
            length
        ));
        assert!(refused(vec![extent(2 * GRAIN, 0)], None, length));
        assert!(refused(vec![extent(2 * GRAIN, u64::MAX)], None, length));
        assert!(refused(vec![extent(999 * GRAIN, 2 * GRAIN)], None, length));
        assert!(refused(vec![extent(2 * GRAIN + 1, GRAIN)], None, length));
        assert!(refused(vec![extent(2 * GRAIN, 1)], None, length));
        assert!(refused(vec![], Some(GRAIN), length), "a page that does not get on");
        assert!(refused(vec![extent(2 * GRAIN, GRAIN)], Some(3 * GRAIN), length));
        assert!(refused(full(GRAIN), Some(5), u64::MAX));
        assert!(!refused(full(GRAIN), Some(GRAIN * 2 * PAGE as u64), u64::MAX));
        let mut long = full(GRAIN);
        long.push(extent(GRAIN * 9000, GRAIN));
        assert!(refused(long, None, u64::MAX));
    }

    proptest! {
        #[test]
        fn every_byte_that_is_not_zero_is_in_an_extent(
            length in 1_u64..60 * GRAIN,
            writes in proptest::collection::vec((0_u64..60 * GRAIN, 1_usize..200_000), 0..12),
            from in 0_u64..60 * GRAIN,
        ) {
            let file = sparse(length, &[]);
            for (at, len) in writes {
                let len = len.min(usize::try_from(length.saturating_sub(at)).unwrap());
                file.write_all_at(&vec![1; len], at).unwrap();
            }
            let page = page(&file, from, length).unwrap().checked(from, length).unwrap();
            let mut content = vec![0; usize::try_from(length).unwrap()];
            file.read_exact_at(&mut content, 0).unwrap();
            for (at, byte) in content.iter().enumerate().skip(usize::try_from(from).unwrap()) {
                let at = at as u64;
                let covered = page.extents.iter().any(|extent| extent.start <= at && at < extent.end());
                prop_assert!(*byte == 0 || covered, "byte {at}");
            }
        }
    }
}
