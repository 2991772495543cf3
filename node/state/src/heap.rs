//! Bytes of tasks that are too many for memory: where they lie, and how much of each file somebody still needs.
//!
//! The heap is arithmetic alone. What comes is staged behind what the growing file has, and whoever keeps the files
//! takes it from there; a place names bytes that never change. Places are a node's own: they are in no command and no
//! hash, and other nodes have the same bytes elsewhere. Nothing is ever written over: bytes that a task lets go stay
//! where they are until nothing of their file is needed.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kind::Stopped;

/// A place as it is carried.
pub const PLACE_BYTES: usize = 16;

/// Where bytes lie, and what they must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The file's number, which no other file of the node has had since it was started.
    pub file: u32,
    pub offset: u32,
    /// That it is never 0 is what makes a blob as small as its place.
    pub len: NonZeroU32,
    /// CRC-32 of the bytes.
    pub crc: u32,
}

impl Place {
    pub fn to_bytes(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        let numbers = [self.file, self.offset, self.len.get(), self.crc];
        bytes.chunks_exact_mut(4).zip(numbers).for_each(|(to, from)| to.copy_from_slice(&from.to_le_bytes()));
        bytes
    }

    pub fn of_bytes(bytes: &[u8]) -> Option<Place> {
        let bytes: &[u8; PLACE_BYTES] = bytes.try_into().ok()?;
        let at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Place { file: at(0), offset: at(4), len: NonZeroU32::new(at(8))?, crc: at(12) })
    }

    /// One past its last byte.
    pub fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.len.get())
    }

    /// How many they are.
    pub fn bytes(self) -> usize {
        self.len.get() as usize
    }

    /// Whether these are the bytes.
    pub fn is_of(self, bytes: &[u8]) -> bool {
        bytes.len() == self.bytes() && crc32fast::hash(bytes) == self.crc
    }
}

/// Bytes of a task, or where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    /// None where there are none; behind a reference: most are in files, and small for that.
    Here(Option<Arc<Bytes>>),
    Filed(Place),
}

impl Default for Blob {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Blob::Here((!bytes.is_empty()).then(|| Arc::new(bytes)))
    }
}

impl Blob {
    /// No bytes.
    pub const EMPTY: Blob = Blob::Here(None);

    pub fn len(&self) -> usize {
        match self {
            Blob::Here(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len()),
            Blob::Filed(place) => place.bytes(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are some, and they are in no file.
    pub fn is_here(&self) -> bool {
        matches!(self, Blob::Here(Some(_)))
    }

    pub fn place(&self) -> Option<Place> {
        match self {
            Blob::Here(_) => None,
            Blob::Filed(place) => Some(*place),
        }
    }
}

/// As bytes: a section's format says whether these are a place.
impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Blob::Here(bytes) => {
                serializer.serialize_bytes(bytes.as_ref().map_or(&[][..], |bytes| &bytes[..]))
            }
            Blob::Filed(place) => serializer.serialize_bytes(&place.to_bytes()),
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bytes::deserialize(deserializer).map(Blob::from)
    }
}

/// The disk has bytes no more, or others in their place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(pub String);

/// A file that bytes lie in, open for as long as somebody has this.
pub trait HeapFile: fmt::Debug + Send + Sync {
    /// The bytes of a place, checked; none where the disk would have to be waited for and may not.
    fn read(&self, place: Place, may_wait: bool) -> Result<Option<Bytes>, Lost>;
}

/// The files of a heap.
pub trait HeapFiles: fmt::Debug + Send + Sync {
    /// What it takes to read a place later, whatever becomes of its file meanwhile.
    fn find(&self, place: Place) -> Result<Held, Lost>;
}

/// Bytes that can be had, whatever becomes of the task meanwhile.
#[derive(Debug, Clone)]
pub enum Held {
    Here(Bytes),
    There(Place, Arc<dyn HeapFile>),
    Lost(Lost),
}

impl Held {
    pub fn len(&self) -> usize {
        match self {
            Held::Here(bytes) => bytes.len(),
            Held::There(place, _) => place.bytes(),
            Held::Lost(_) => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where they are in memory; none where the disk has to be waited for.
    pub fn now(&self) -> Result<Option<Bytes>, Lost> {
        self.get(false)
    }

    /// As long as the disk takes. Blocks.
    pub fn read(&self) -> Result<Bytes, Lost> {
        Ok(self.get(true)?.unwrap_or_default())
    }

    fn get(&self, may_wait: bool) -> Result<Option<Bytes>, Lost> {
        match self {
            Held::Here(bytes) => Ok(Some(bytes.clone())),
            Held::There(place, file) => file.read(*place, may_wait),
            Held::Lost(lost) => Err(lost.clone()),
        }
    }
}

/// How far a file is filled, and how many bytes of it are needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filled {
    pub len: u64,
    pub live: u64,
}

/// What was staged, and where it belongs.
#[derive(Debug)]
pub struct Staged {
    pub file: u32,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// All bytes of tasks that are in files. Without any files it keeps them staged: that is how tests have it.
#[derive(Debug, Clone, Default)]
pub struct Heap {
    files: BTreeMap<u32, Filled>,
    /// The file that grows.
    grows: Option<u32>,
    staged: Vec<u8>,
    /// Files of which nothing is needed any more, since they were last asked for.
    emptied: Vec<u32>,
    last_number: u32,
    source: Option<Arc<dyn HeapFiles>>,
}

impl Heap {
    /// Over files of these numbers and lengths; `grows` is one of them.
    pub fn open(
        files: impl Iterator<Item = (u32, u64)>,
        grows: Option<u32>,
        source: Arc<dyn HeapFiles>,
    ) -> Self {
        let files: BTreeMap<u32, Filled> =
            files.map(|(number, len)| (number, Filled { len, live: 0 })).collect();
        let last_number = files.keys().next_back().copied().unwrap_or(0);
        Self { files, grows, last_number, source: Some(source), ..Self::default() }
    }

    /// Sealed files of these numbers and lengths, of which so many bytes are needed.
    pub fn of_filled(files: impl Iterator<Item = (u32, u64, u64)>) -> Self {
        Self {
            files: files.map(|(number, len, live)| (number, Filled { len, live })).collect(),
            ..Self::default()
        }
    }

    /// The same, before anything of it is held.
    pub(crate) fn recounted(mut self) -> Self {
        self.files.values_mut().for_each(|file| file.live = 0);
        self
    }

    /// Takes bytes in.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Blob {
        let Some(len) = NonZeroU32::new(bytes.len() as u32) else { return Blob::EMPTY };
        let number = *self.grows.get_or_insert(0);
        let file = self.files.entry(number).or_default();
        let crc = crc32fast::hash(bytes);
        // A file is far shorter than that can say: who keeps it sees to it.
        let place = Place { file: number, offset: file.len as u32, len, crc };
        file.len += u64::from(len.get());
        file.live += u64::from(len.get());
        self.staged.extend_from_slice(bytes);
        Blob::Filed(place)
    }

    /// Bytes that are needed: of what was opened.
    pub(crate) fn hold(&mut self, blob: &Blob) {
        if let Some(file) = blob.place().and_then(|place| self.files.get_mut(&place.file)) {
            file.live += blob.len() as u64;
        }
    }

    /// Bytes that are needed no more.
    pub(crate) fn let_go(&mut self, blob: &Blob) {
        let Some(place) = blob.place() else { return };
        let Some(file) = self.files.get_mut(&place.file) else { return };
        file.live = file.live.saturating_sub(u64::from(place.len.get()));
        self.settle(place.file);
    }

    /// Where nothing of it is needed, the file is none of the heap's any more.
    fn settle(&mut self, number: u32) {
        let is_empty = self.files.get(&number).is_some_and(|file| file.live == 0);
        if is_empty && self.grows != Some(number) {
            self.files.remove(&number);
            self.emptied.push(number);
        }
    }

    /// The same, of all that was opened.
    pub(crate) fn settle_all(&mut self) {
        let all: Vec<u32> = self.files.keys().copied().collect();
        all.into_iter().for_each(|number| self.settle(number));
    }

    /// What it takes to read bytes later.
    pub(crate) fn find(&self, blob: &Blob) -> Held {
        let place = match blob {
            Blob::Here(None) => return Held::Here(Bytes::new()),
            Blob::Here(Some(bytes)) => return Held::Here(Bytes::clone(bytes)),
            Blob::Filed(place) => *place,
        };
        if let Some(staged) = self.staged_at(place) {
            return Held::Here(staged);
        }
        let none = || Lost("there are no files of tasks' bytes".into());
        let found = self.source.as_ref().ok_or_else(none).and_then(|source| source.find(place));
        found.unwrap_or_else(Held::Lost)
    }

    fn staged_at(&self, place: Place) -> Option<Bytes> {
        let file = self.files.get(&place.file).filter(|_| self.grows == Some(place.file))?;
        let begins = file.len - self.staged.len() as u64;
        let from = usize::try_from(u64::from(place.offset).checked_sub(begins)?).ok()?;
        let bytes = self.staged.get(from..from + place.bytes())?;
        Some(Bytes::copy_from_slice(bytes))
    }

    /// The same at once, for who may wait. Blocks.
    pub(crate) fn read(&self, blob: &Blob) -> Result<Bytes, Stopped> {
        self.find(blob).read().map_err(|lost| Stopped::Records(Box::new(lost)))
    }

    /// A number that no file has had.
    pub fn next_number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    /// Goes on in a new file, which has so many bytes. All that was staged is taken.
    pub fn go_on_in(&mut self, number: u32, len: u64) {
        self.add(number, len);
        if let Some(former) = self.grows.replace(number) {
            self.settle(former);
        }
    }

    /// A file that is whole, to which bytes are moved.
    pub fn add(&mut self, number: u32, len: u64) {
        self.last_number = self.last_number.max(number);
        self.files.insert(number, Filled { len, live: 0 });
    }

    /// Whether it is one of its files.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.files.contains_key(&number)
    }

    /// A file to which bytes were moved and of which nothing is needed.
    pub fn drop_if_empty(&mut self, number: u32) {
        self.settle(number);
    }

    /// What was staged since.
    pub fn take_staged(&mut self) -> Option<Staged> {
        let file = self.grows.filter(|_| !self.staged.is_empty())?;
        let bytes = std::mem::take(&mut self.staged);
        let offset = self.files.get(&file)?.len - bytes.len() as u64;
        Some(Staged { file, offset, bytes })
    }

    /// Files of which nothing is needed any more, since the last time.
    pub fn take_emptied(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.emptied)
    }

    /// The files, by their numbers.
    pub fn files(&self) -> impl Iterator<Item = (u32, Filled)> {
        self.files.iter().map(|(number, filled)| (*number, *filled))
    }

    /// The file that grows.
    pub fn growing(&self) -> Option<(u32, Filled)> {
        let number = self.grows?;
        Some((number, *self.files.get(&number)?))
    }

    /// Bytes that are needed.
    pub fn live(&self) -> u64 {
        self.files.values().map(|file| file.live).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(blob: &Blob) -> Place {
        blob.place().unwrap()
    }

    #[test]
    fn a_place_is_what_its_bytes_say() {
        let place = Place { file: 1, offset: 2, len: NonZeroU32::MIN, crc: u32::MAX };
        assert_eq!(Place::of_bytes(&place.to_bytes()), Some(place));
        assert_eq!(Place::of_bytes(&[0; PLACE_BYTES]), None, "no bytes are at no place");
        assert_eq!(size_of::<Blob>(), size_of::<Place>());
        assert_eq!((Place::of_bytes(&[0; 15]), Place::of_bytes(&[0; 17])), (None, None));
    }

    #[test]
    fn what_is_staged_can_be_read_and_belongs_behind_what_was_taken() {
        let mut heap = Heap::default();
        heap.go_on_in(4, 16);
        let first = heap.push(b"abc");
        let staged = heap.take_staged().unwrap();
        assert_eq!((staged.file, staged.offset, staged.bytes), (4, 16, b"abc".to_vec()));
        let second = heap.push(b"de");
        assert_eq!(heap.read(&second).unwrap(), "de");
        assert_eq!((place(&first).offset, place(&second).offset), (16, 19));
        assert!(matches!(heap.find(&first), Held::Lost(_)), "nobody keeps files here");
        assert_eq!(heap.take_staged().unwrap().offset, 19);
        assert!(heap.take_staged().is_none());
    }

    #[test]
    fn a_file_goes_when_nothing_of_it_is_needed_and_it_grows_no_more() {
        let mut heap = Heap::default();
        heap.go_on_in(1, 16);
        let (one, other) = (heap.push(b"abc"), heap.push(b"de"));
        heap.take_staged();
        heap.let_go(&one);
        assert_eq!((heap.live(), heap.bytes()), (2, 21));
        heap.let_go(&other);
        assert!(heap.take_emptied().is_empty(), "it grows");
        heap.go_on_in(2, 16);
        assert_eq!(heap.take_emptied(), [1]);
        let last = heap.push(b"f");
        heap.take_staged();
        heap.go_on_in(3, 16);
        assert!(heap.take_emptied().is_empty());
        heap.let_go(&last);
        assert_eq!((heap.take_emptied(), heap.next_number()), (vec![2], 4));
    }
}
