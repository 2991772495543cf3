//! What a run of commands needs of the claims that there are, looked for before it is applied.
//!
//! Which claims may be a key's is known in memory; their records say which is, and a record may have to come
//! from the disk. Claims do not change, and only who applies makes and forgets them: what was found is still so
//! when the run is applied, but for what the run itself makes and forgets.

use std::collections::HashMap;
use std::fs::File;
use std::num::NonZeroU64;
use std::sync::Arc;

use skep_state::command::{ClaimKey, Op};
use skep_state::kinds::claims::remembered::{CLAIM_BYTES, Remembered};

use crate::claims::file::{self, offset};
use crate::error::StoreError;
use crate::segments::{SegmentFile, Wait, read_exact_at};

/// Keys that are looked for on the thread that runs consensus, where their claims are in memory.
const KEYS_NOW_MAX: usize = 256;
/// What a disk is asked for at a time.
const PAGE_BYTES: u64 = 4096;

/// What is to be looked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(super) keys: Vec<ClaimKey>,
}

impl Wanted {
    pub(crate) fn note(&mut self, op: &Op) {
        if let Op::Claim { key, .. } = op {
            self.keys.push(*key);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether it takes so many reads that they are nothing for the thread that runs consensus.
    pub(crate) fn is_long(&self) -> bool {
        self.keys.len() > KEYS_NOW_MAX
    }
}

/// Of each key that is wanted, where what may be its claim is: mostly nowhere, or at one place.
pub(crate) struct Places(pub(super) Vec<(ClaimKey, Vec<Place>)>);

impl Places {
    /// Reads the claims there. Who may wait for the disk asks it for all of them at once, in the order in which they
    /// lie there: of keys that come in no order, each is mostly a page of its own.
    pub(crate) fn read(&self, wait: Wait) -> Result<Known, StoreError> {
        if wait == Wait::ForDisk {
            let len = NonZeroU64::new(PAGE_BYTES);
            let mut opened: Option<(&Arc<SegmentFile>, Arc<File>)> = None;
            // Only a hint: what the kernel does not take, or lacks a descriptor for, is read all the same.
            for (file, page) in self.pages() {
                if opened.as_ref().is_none_or(|(other, _)| !Arc::ptr_eq(other, file)) {
                    opened = file.open().ok().map(|open| (file, open));
                }
                if let Some((_, open)) = &opened {
                    let _ = rustix::fs::fadvise(&**open, page, len, rustix::fs::Advice::WillNeed);
                }
            }
        }
        let mut known = Known(HashMap::with_capacity(self.0.len()));
        for (key, places) in &self.0 {
            known.0.insert(key.0, newest(*key, places.iter().map(Ok), wait)?);
        }
        Ok(known)
    }

    /// The pages of files in which they lie, each once and in order.
    fn pages(&self) -> Vec<(&Arc<SegmentFile>, u64)> {
        let on_disk = self.0.iter().flat_map(|(_, places)| places).filter(|place| place.bytes.is_none());
        let mut places: Vec<&Place> = on_disk.collect();
        places.sort_unstable_by_key(|place| place.number);
        let page = |offset: u64| offset / PAGE_BYTES * PAGE_BYTES;
        let mut pages: Vec<_> = places.into_iter().map(|place| (&place.file, page(place.offset()))).collect();
        pages.dedup_by(|(file, page), (other, before)| Arc::ptr_eq(file, other) && page == before);
        pages
    }
}

/// What was found: of each key, its newest claim.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<u128, Option<(u64, Remembered)>>);

impl Known {
    /// The newest claim of a key; none where it was not looked for.
    pub(super) fn of(&self, key: ClaimKey) -> Option<Option<&(u64, Remembered)>> {
        self.0.get(&key.0).map(Option::as_ref)
    }
}

/// Where a claim is.
pub(super) struct Place {
    pub number: u64,
    /// It comes behind so many in this file.
    pub at: u64,
    pub file: Arc<SegmentFile>,
    /// The claim, where it is not in the file yet.
    pub bytes: Option<[u8; CLAIM_BYTES]>,
}

impl Place {
    pub(super) fn offset(&self) -> u64 {
        offset(self.at).unwrap_or(u64::MAX)
    }

    fn read(&self, wait: Wait) -> Result<Remembered, StoreError> {
        let path = self.file.path();
        let bytes = match self.bytes {
            Some(bytes) => bytes,
            None => {
                let mut bytes = [0; CLAIM_BYTES];
                read_exact_at(&*self.file.open_for(wait)?, path, &mut bytes, self.offset(), wait)?;
                bytes
            }
        };
        file::claim(path, self.number, self.at, &bytes)
    }
}

/// The one of these that is the key's.
pub(super) fn newest<P: std::borrow::Borrow<Place>>(
    key: ClaimKey,
    places: impl Iterator<Item = Result<P, StoreError>>,
    wait: Wait,
) -> Result<Option<(u64, Remembered)>, StoreError> {
    for place in places {
        let place = place?;
        let place = place.borrow();
        let claim = place.read(wait)?;
        if claim.key == key {
            return Ok(Some((place.number, claim)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_asked_for_each_page_once_in_the_order_in_which_they_lie_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let file = tempfile::tempfile_in(folder.path()).unwrap();
            Arc::new(SegmentFile::held(folder.path().join(name), file))
        };
        let (first, second) = (file("a"), file("b"));
        let place = |number: u64, bytes| {
            let (file, begins) = if number < 1_000 { (&first, 0) } else { (&second, 1_000) };
            Place { number, at: number - begins, file: file.clone(), bytes }
        };
        let wanted = [1_900, 5, 999, 6, 1_000, 70, 1_001].map(|number| place(number, None));
        let on_its_way = place(1_500, Some([0; CLAIM_BYTES]));
        let places =
            Places(wanted.into_iter().chain([on_its_way]).map(|it| (ClaimKey(1), vec![it])).collect());
        let pages: Vec<_> =
            places.pages().into_iter().map(|(file, at)| (file.path().to_owned(), at)).collect();
        let expected = [(&first, 0), (&first, 4096), (&first, 61_440), (&second, 0), (&second, 57_344)];
        assert_eq!(pages, expected.map(|(file, at)| (file.path().to_owned(), at)));
    }
}
