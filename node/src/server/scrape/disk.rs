//! How much room a folder's file system has.

use std::path::Path;

/// The room that a program without privileges has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Room {
    pub free_bytes: f64,
    pub size_bytes: f64,
}

/// None where the system does not say.
pub fn room(folder: &Path) -> Option<Room> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks as f64 * stat.f_frsize as f64;
    Some(Room { free_bytes: bytes(stat.f_bavail), size_bytes: bytes(stat.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_there_has_a_size_and_not_more_room_than_that() {
        let folder = tempfile::tempdir().unwrap();
        let room = room(folder.path()).unwrap();
        assert!(room.size_bytes > 0.0 && (0.0..=room.size_bytes).contains(&room.free_bytes), "{room:?}");
    }

    #[test]
    fn of_a_folder_that_is_not_there_nothing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(room(&folder.path().join("none")), None);
    }
}
