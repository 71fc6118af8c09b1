//! Finds the program of a container, with the rules and the words of Go's
//! `os/exec.LookPath`: that is what runc uses, and what users of containerd
//! know and match on.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

/// Why a program cannot be run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    /// No directory of the path has it.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotFound(String),
    #[error("exec: {name:?}: stat {name}: {}", words(*.errno))]
    Stat { name: String, errno: Errno },
    /// It is there, and cannot be executed.
    #[error("exec: {name:?}: {}", words(*.errno))]
    Access { name: String, errno: Errno },
    /// It was found through a relative directory of the path.
    #[error("exec: {0:?}: cannot run executable found relative to current directory")]
    Relative(String),
}

/// The file that `name` stands for, where `path` is the value of PATH.
pub fn find(name: &str, path: &str) -> Result<PathBuf, LookError> {
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(Failure::Stat(errno)) => Err(LookError::Stat { name: name.to_owned(), errno }),
            Err(Failure::Access(errno)) => Err(LookError::Access { name: name.to_owned(), errno }),
        };
    }
    // An empty PATH has no directories, but an empty one in it is the current.
    let dirs = path.split(':').filter(|_| !path.is_empty() && !name.is_empty());
    for dir in dirs {
        let file = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        if check(&file).is_ok() {
            return if file.is_absolute() {
                Ok(file)
            } else {
                Err(LookError::Relative(name.to_owned()))
            };
        }
    }
    Err(LookError::NotFound(name.to_owned()))
}

enum Failure {
    Stat(Errno),
    Access(Errno),
}

fn check(file: &Path) -> Result<(), Failure> {
    let stat = |error: std::io::Error| {
        Failure::Stat(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    };
    let metadata = std::fs::metadata(file).map_err(stat)?;
    if metadata.is_dir() {
        return Err(Failure::Access(Errno::EISDIR));
    }
    match faccessat(AT_FDCWD, file, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        Ok(()) => Ok(()),
        // Seccomp profiles of old forbid the call or do not know it.
        Err(Errno::ENOSYS | Errno::EPERM) if metadata.permissions().mode() & 0o111 != 0 => Ok(()),
        Err(Errno::ENOSYS | Errno::EPERM) => Err(Failure::Access(Errno::EACCES)),
        Err(errno) => Err(Failure::Access(errno)),
    }
}

/// An error number as Go words it: the C library's words without a capital.
pub fn words(errno: Errno) -> String {
    let text = errno.desc();
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_ascii_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
