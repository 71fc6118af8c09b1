use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::load::MAX_TEXT;
use super::{Document, Loaded, Problem};

/// A policy was not read.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file is not a valid policy.
    #[error("{path}: {problem}", path = path.display())]
    Problem { path: PathBuf, problem: Problem },
}

impl Document {
    /// Reads a file and returns its text, too. Reads no more than the longest
    /// policy, whatever is at the path.
    pub fn read(path: &Path) -> Result<(String, Loaded), ReadError> {
        let unread = |source| ReadError::Read { path: path.to_owned(), source };
        let wrong = |problem| ReadError::Problem { path: path.to_owned(), problem };
        let text = text(path).map_err(unread)?;
        let loaded = Self::load(&text).map_err(wrong)?;
        Ok((text, loaded))
    }
}

fn text(path: &Path) -> io::Result<String> {
    // A FIFO without a writer is not waited for.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    let mut text = String::new();
    // One byte more than is allowed, so that the loader reports the size.
    file.take(MAX_TEXT as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(content: &[u8]) -> Result<(String, Loaded), ReadError> {
        let path = std::env::temp_dir().join(format!("policy-read-{}", std::process::id()));
        let path = path.with_extension(content.len().to_string());
        std::fs::write(&path, content).unwrap();
        let read = Document::read(&path);
        std::fs::remove_file(&path).unwrap();
        read
    }

    #[test]
    fn a_file_gives_its_text_and_what_it_says() {
        let (text, loaded) = read(b"version = 1\n").unwrap();
        assert_eq!((text.as_str(), loaded.document.version), ("version = 1\n", 1));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file() {
        let error = read(b"version = 1\ncolour = 2\n").unwrap_err().to_string();
        assert!(error.contains("policy-read-") && error.contains("line 2: colour"), "{error}");
        let error = Document::read(Path::new("/nonexistent/p")).unwrap_err().to_string();
        assert_eq!(error, "cannot read /nonexistent/p");
    }

    #[test]
    fn no_more_is_read_than_can_be_a_policy() {
        let error = read(&vec![b'#'; MAX_TEXT + 10]).unwrap_err().to_string();
        assert!(error.contains(&format!("the file has {} bytes", MAX_TEXT + 1)), "{error}");
        let error = Document::read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("/dev/zero: the file has"), "{error}");
    }
}
