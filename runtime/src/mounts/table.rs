//! What is mounted where.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::MountError;

/// Rounds of unmounting: mounts can be stacked on one point, and each round
/// takes off at least the uppermost.
const MAX_ROUNDS: usize = 16;

/// A line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// PodDirectory of the file system that is the root of the mount.
    pub root: PathBuf,
    /// Where it is.
    pub point: PathBuf,
    /// File system type.
    pub kind: String,
    /// Options of the file system.
    pub options: String,
}

/// The mounts of this thread's mount namespace.
pub(crate) struct MountTable {
    /// In the order of mounting.
    pub entries: Vec<MountEntry>,
}

impl MountTable {
    /// Reads it (proc_pid_mountinfo(5)).
    pub fn read() -> Result<Self, MountError> {
        let text = fs::read("/proc/thread-self/mountinfo").map_err(MountError::Table)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &[u8]) -> Self {
        Self { entries: text.split(|b| *b == b'\n').filter_map(entry).collect() }
    }

    /// The mount points at and below `directory`, last mounted first.
    pub fn below(&self, directory: &Path) -> Vec<&Path> {
        let points = self.entries.iter().map(|entry| entry.point.as_path());
        points.filter(|point| point.starts_with(directory)).rev().collect()
    }
}

/// `36 35 98:0 /root /point options shared:1 - type source superoptions`
fn entry(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let root = unescape(fields.nth(3)?);
    let point = unescape(fields.next()?);
    fields.find(|field| *field == b"-")?;
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let options = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    Some(MountEntry { root, point, kind, options })
}

/// Undoes `\040` and the like.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// Takes off every mount at and below `directory`. When it fails, something is
/// mounted there still, and nothing below may be removed.
pub(crate) fn unmount_below(directory: &Path) -> Result<(), MountError> {
    for _ in 0..MAX_ROUNDS {
        let table = MountTable::read()?;
        let points = table.below(directory);
        if points.is_empty() {
            return Ok(());
        }
        for point in points {
            match unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                // Gone with one that was above it.
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(error) => {
                    return Err(MountError::Unmount {
                        path: point.to_owned(),
                        source: error.into(),
                    });
                }
            }
        }
    }
    let source = io::Error::other("it is mounted again and again");
    Err(MountError::Unmount { path: directory.to_owned(), source })
}

#[cfg(test)]
mod tests;
